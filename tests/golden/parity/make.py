#!/usr/bin/env python3
"""Make the feature set on which the program's figures are compared with PyTorch's.

    pip install numpy soundfile
    tests/golden/parity/make.py target/debug/undertone

Fourteen pieces of demo/room.ogg (CC BY-SA 3.0, see NOTICE) stand for utterances, under labels and
splits dealt out in turn: it is arithmetic that is compared, not merit. Twelve windows of noise made here
and of the room's pauses are background. Values are rounded (log-mel to 2 dB, delta to 1/4), so
that they pack well; both sides read the same rounded values.

Afterwards run models/training/golden_parity.py, which writes expected.json.
"""

import csv
import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).resolve().parent
ROOM = HERE.parents[2] / "demo" / "room.ogg"
RATE = 16_000
EMOTIONS = ("neutral", "happy", "fear", "disgust", "anger", "sad")
# Where the voices of the room lie, in seconds: tests/support/room.rs.
VOICES = [(6.0, 11.15), (14.15, 18.01), (25.01, 28.14), (30.64, 33.31), (41.31, 44.51)]
VOICES += [(47.51, 50.8), (56.8, 60.01), (63.51, 68.41), (77.41, 80.55), (84.55, 86.35)]
PAUSES = [1.0, 20.0, 35.0, 52.5]
WINDOW = 57_840  # samples of a model window, 3.6 s and a little


def made(number: int) -> np.ndarray:
    """Noise that falls with frequency, each window otherwise, some with a hum or a tick."""
    rng = np.random.default_rng(number)
    spectrum = np.fft.rfft(rng.standard_normal(WINDOW))
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.maximum(hertz, 50.0) ** (0.2 * number), WINDOW)
    noise *= 0.02 / noise.std()
    if number % 3 == 1:
        noise += 0.02 * np.sin(2 * np.pi * 100 * np.arange(WINDOW) / RATE)
    if number % 3 == 2:
        noise[:: RATE // 2] += 0.3
    return noise


def main() -> None:
    program = Path(sys.argv[1]).resolve()
    room = soundfile.read(ROOM)[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder, rows = Path(scratch), []

        def add(name: str, samples: np.ndarray, *columns: str) -> None:
            soundfile.write(folder / name, samples, RATE, subtype="PCM_16")
            rows.append([name, *columns])

        pieces = [(start - 0.3, end + 0.3) for start, end in VOICES] + [(start, (start + end) / 2) for start, end in VOICES[:4]]
        for number, (start, end) in enumerate(pieces):
            corpus, split = ("asterisk", "prompts")[number // 8], ("test_seen", "test_unseen")[number % 4 // 2]
            samples = room[int(start * RATE) : int(end * RATE)]
            add(f"voice-{number}.wav", samples, corpus, "", EMOTIONS[number % 6], split, "utterance")
        for number, start in enumerate(PAUSES):
            at = int(start * RATE)
            add(f"pause-{number}.wav", room[at : at + WINDOW], "noise_room", "", "background", "test_unseen", "background")
        for number in range(8):
            add(f"made-{number}.wav", made(number), "noise_made", "", "background", "test_unseen", "background")
        with open(folder / "manifest.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "corpus", "speaker", "emotion", "split", "kind"])
            writer.writerows(rows)
        out = folder / "features"
        subprocess.run([program, "corpus", "features", "--manifest", folder / "manifest.csv", "--out", out], check=True)
        features = np.load(out / "features.npy").astype(np.float32)
        features[:, :40] = 2.0 * np.round(features[:, :40] / 2.0)
        features[:, 40:] = np.round(4.0 * features[:, 40:]) / 4.0
        np.save(out / "features.npy", features.astype(np.float16))
        packed = gzip.compress((out / "features.npy").read_bytes(), 9, mtime=0)
        (HERE / "features.npy.gz").write_bytes(packed)
        for name in ("index.csv", "features.json"):
            (HERE / name).write_bytes((out / name).read_bytes())
        print(f"{len(rows)} rows, {len(packed) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
