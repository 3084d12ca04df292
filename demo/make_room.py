#!/usr/bin/env python3
"""Make demo/room.ogg: voices from Asterisk's prompts in a steady background that is made here.

    pip install numpy soundfile
    apt-get install asterisk-core-sounds-{en,es,fr,it,ru}-wav
    demo/make_room.py

The voices are CC BY-SA 3.0 (see NOTICE); so is the recording.
"""

from pathlib import Path

import numpy as np
import soundfile

SOUNDS = Path("/usr/share/asterisk/sounds")
RATE = 16_000
SNR_DB = 22.0
# Seconds of background before each prompt, and the prompt.
ROOM = [
    (6.0, "en_US_f_Allison/agent-incorrect"),
    (3.0, "en_US_f_Allison/conf-invalid"),
    (7.0, "it_IT_m_Carlo/agent-newlocation"),
    (2.5, "it_IT_m_Carlo/conf-invalidpin"),
    (8.0, "fr_CA_f_June/cannot-complete-as-dialed"),
    (3.0, "en_US_f_Allison/agent-newlocation"),
    (6.0, "ru_RU_f_IvrvoiceRU/check-number-dial-again"),
    (3.5, "es_MX_f_Allison/conf-kicked"),
    (9.0, "it_IT_m_Carlo/cannot-complete-as-dialed"),
    (4.0, "en_US_f_Allison/all-circuits-busy-now"),
]
LAST_SECONDS = 9.0


def wide(samples: np.ndarray, rate: int) -> np.ndarray:
    """To 16 kHz by zero-padding the spectrum; the prompts have 8 kHz."""
    spectrum = np.fft.rfft(samples)
    length = len(samples) * RATE // rate
    padded = np.zeros(length // 2 + 1, complex)
    padded[: len(spectrum)] = spectrum
    return np.fft.irfft(padded, length) * (length / len(samples))


def background(length: int) -> np.ndarray:
    """A ventilator: noise that falls by 1/f, a slow swell, a little mains hum; RMS 1."""
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.maximum(hertz, 60.0) ** 0.8, length)
    time = np.arange(length) / RATE
    noise *= 1 + 0.1 * np.sin(2 * np.pi * 0.23 * time)
    noise /= noise.std()
    noise += 0.15 * np.sin(2 * np.pi * 100 * time)
    return noise / noise.std()


def main() -> None:
    pieces, voice_power = [], []
    for pause, name in ROOM:
        samples, rate = soundfile.read(SOUNDS / f"{name}.wav")
        voice = wide(samples, rate)
        voice *= 0.08 / voice.std()
        pieces += [np.zeros(int(pause * RATE)), voice]
        voice_power.append(np.mean(voice**2))
    pieces.append(np.zeros(int(LAST_SECONDS * RATE)))
    room = np.concatenate(pieces)
    room += background(len(room)) * np.sqrt(np.mean(voice_power)) * 10 ** (-SNR_DB / 20)
    out = Path(__file__).with_name("room.ogg")
    soundfile.write(out, room, RATE, format="OGG", subtype="VORBIS")
    print(f"{out}: {len(room) / RATE:.1f} s, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
