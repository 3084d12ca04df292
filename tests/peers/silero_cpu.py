#!/usr/bin/env python3
"""CPU time for each second of audio: undertone beside Silero VAD, in turns within one run.

    silero_cpu.py target/release/undertone [--wav FILE...] [--rounds 5]

Needs numpy, onnxruntime and silero-vad (of which only the ONNX file is used: `pip install --no-deps`).

Without --wav, on two minutes of a room's background that is made here (darkened noise with a slow swell).
Both use one thread. Loading is left out: Silero's clock starts after it; undertone is run on the recording
once and on the recording twice over, and the difference counts. Files: 16 kHz, 16 bit, mono.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

RATE = 16_000
CHUNK, CONTEXT = 512, 64
STEADY = "[cascade]\nenergy_gate = false\n"


def made(seconds: int = 120) -> np.ndarray:
    """int16 samples."""
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(rng.standard_normal(seconds * RATE))
    hertz = np.fft.rfftfreq(seconds * RATE, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.maximum(hertz, 60.0) ** 0.8, seconds * RATE)
    noise *= 1 + 0.1 * np.sin(2 * np.pi * 0.23 * np.arange(noise.size) / RATE)
    return (600 * noise / noise.std()).astype(np.int16)


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path} is not 16 kHz, 16 bit, mono")
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def write(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def load() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = Path(find_spec("silero_vad").submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def silero(samples: np.ndarray, session: onnxruntime.InferenceSession) -> float:
    """Chunk by chunk, as a stream would be; CPU seconds a second of audio."""
    begun = time.process_time()
    sound = samples.astype(np.float32) / 32768
    state, context, rate = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32), np.array(RATE, np.int64)
    for start in range(0, sound.size - CHUNK + 1, CHUNK):
        x = np.concatenate([context, sound[start : start + CHUNK]])[None]
        _, state = session.run(None, {"input": x, "state": state, "sr": rate})
        context = x[0, -CONTEXT:]
    return (time.process_time() - begun) / (samples.size / RATE)


def undertone(program: Path, once: Path, twice: Path, configuration: Path | None) -> float:
    def cpu(path: Path) -> tuple[float, float]:
        options = ["--config", str(configuration)] if configuration else []
        told = subprocess.run([program, "analyze", "--json", *options, path], check=True, capture_output=True, text=True).stdout
        summary = json.loads(told.splitlines()[-1])
        return summary["cpu_seconds"], summary["audio_seconds"]

    (short, a), (long, b) = cpu(once), cpu(twice)
    return (long - short) / (b - a)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--wav", type=Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sounds = {str(path): read(path) for path in arguments.wav} or {"made background": made()}
    session = load()
    names = ("silero", "undertone", "undertone, energy gate off")
    print(f"CPU milliseconds a second of audio, median of {arguments.rounds}\n\n| sound | {' | '.join(names)} |\n|{' --- |' * 4}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "steady.toml").write_text(STEADY)
        for name, samples in sounds.items():
            once, twice = write(folder / "once.wav", samples), write(folder / "twice.wav", np.tile(samples, 2))
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(arguments.rounds):
                times["silero"].append(silero(samples, session))
                times["undertone"].append(undertone(arguments.program, once, twice, None))
                times["undertone, energy gate off"].append(undertone(arguments.program, once, twice, folder / "steady.toml"))
            print(f"| {name} | " + " | ".join(f"{1e3 * statistics.median(values):.2f}" for values in times.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
