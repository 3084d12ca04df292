#!/usr/bin/env python3
"""Make the golden feature files that the Rust feature code is compared with.

librosa, computing in 64-bit floats, is the outside reference. For each recording
this writes, all little-endian and without a header:

    NAME.s16         int16 [samples]   the recording, 16 kHz mono
    NAME.f32         float32 [80, 360] features of the utterance (dynamic hop)
    NAME_stream.f32  float32 [80, 360] features at the fixed 10 ms hop; only for
                     recordings of at least 360 * 160 + 1024 samples

Rows 0..40 are the log-mel bands in dB below the loudest of the 360 windows, rows
40..80 their slopes. Without arguments five recordings are synthesized, always the
same ones; with WAV files (16 kHz, mono, 16 bit) as arguments those are used.
"""

import argparse
import sys
from pathlib import Path

import librosa
import numpy as np
import soundfile
from scipy.signal import chirp, lfilter

RATE = 16_000
FFT = 1024
WINDOW = 400
BANDS = 40
FRAMES = 360
STREAM_HOP = 160
STREAM_SAMPLES = FRAMES * STREAM_HOP + FFT


def log_mel_and_delta(samples: np.ndarray, hop: int) -> np.ndarray:
    """int16 [n] -> float32 [80, 360]; window k covers FFT samples from k * hop on."""
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64) / 32768.0,
        sr=RATE,
        n_fft=FFT,
        win_length=WINDOW,
        window="hann",
        hop_length=hop,
        center=False,
        power=2.0,
        n_mels=BANDS,
        dtype=np.float64,
    )[:, :FRAMES]
    decibel = librosa.power_to_db(power, ref=np.max, amin=1e-10, top_db=80.0)
    slope = librosa.feature.delta(decibel, width=9, mode="nearest")
    return np.concatenate([decibel, slope]).astype("<f4")


def utterance_hop(samples: int) -> int:
    """The hop at which `samples` give 360 windows (Lin and Busso 2021)."""
    return (samples - FFT) // (FRAMES - 1)


def seconds(duration: float) -> np.ndarray:
    return np.arange(int(duration * RATE)) / RATE


def rising_chirp() -> np.ndarray:
    """A sweep over the whole band, fading in."""
    t = seconds(0.9)
    return 0.6 * np.minimum(1.0, t / 0.05) * chirp(t, 60.0, t[-1], 7_600.0, method="logarithmic")


def white_noise() -> np.ndarray:
    """Loud noise, shorter than one second, so that windows overlap heavily."""
    return 0.2 * np.random.default_rng(1).standard_normal(int(0.6 * RATE))


def click_in_silence() -> np.ndarray:
    """Digital silence around one decaying click: most windows lie on the floor."""
    wave = np.zeros(int(3.8 * RATE))
    t = seconds(0.03)
    wave[30_000 : 30_000 + t.size] = 0.8 * np.exp(-t / 0.004) * np.cos(2 * np.pi * 1_800 * t)
    return wave


def vowels() -> np.ndarray:
    """Five vowels with a gliding pitch, pauses and a little breath noise."""
    formants = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410)]
    rng = np.random.default_rng(2)
    parts = []
    for number, centres in enumerate(formants):
        t = seconds(0.62)
        pitch = 110 + 12 * number + 30 * np.sin(np.pi * t / t[-1])
        phase = np.cumsum(pitch / RATE)
        source = np.diff(np.floor(phase), prepend=0.0) + 0.003 * rng.standard_normal(t.size)
        for centre in centres:
            radius = np.exp(-np.pi * 90.0 / RATE)
            angle = 2 * np.pi * centre / RATE
            source = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
        parts += [source * np.hanning(t.size), np.zeros(int(0.2 * RATE))]
    wave = np.concatenate(parts)
    wave *= 0.5 / np.abs(wave).max()
    return wave + 0.001 * rng.standard_normal(wave.size)


def quiet_sine_with_offset() -> np.ndarray:
    """A sine a few steps high on a constant offset, as a poor microphone gives it."""
    t = seconds(1.3)
    return 0.002 * np.sin(2 * np.pi * 440 * t) + 0.05


def synthesized() -> dict[str, np.ndarray]:
    """The five recordings as int16."""
    makers = (rising_chirp, white_noise, click_in_silence, vowels, quiet_sine_with_offset)
    return {m.__name__: np.round(np.clip(m(), -1, 0.9999) * 32768).astype("<i2") for m in makers}


def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    if rate != RATE or samples.shape[1] != 1:
        sys.exit(f"{path}: {rate} Hz with {samples.shape[1]} channels; 16000 Hz mono is needed")
    return samples[:, 0].astype("<i2")


def write(out: Path, name: str, samples: np.ndarray) -> None:
    hop = utterance_hop(samples.size)
    if hop < 1:
        sys.exit(f"{name}: {samples.size} samples are too few; at least {FFT + FRAMES - 1} are needed")
    samples.tofile(out / f"{name}.s16")
    log_mel_and_delta(samples, hop).tofile(out / f"{name}.f32")
    streamed = samples.size >= STREAM_SAMPLES
    if streamed:
        log_mel_and_delta(samples, STREAM_HOP).tofile(out / f"{name}_stream.f32")
    print(f"{name}: {samples.size} samples, hop {hop}{', and streamed' if streamed else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wav", nargs="*", type=Path, help="16 kHz mono 16-bit recordings instead of the synthesized")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "features", help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    recordings = {p.stem: read(p) for p in arguments.wav} if arguments.wav else synthesized()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, samples in recordings.items():
        write(arguments.out, name, samples)


if __name__ == "__main__":
    main()
