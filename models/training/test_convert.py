"""Converted voices: another pitch, the same length, the same names."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import parselmouth
import soundfile

from convert import converted, median_pitch, voice

RATE = 16_000


def vowel(hertz: float, seconds: float = 0.8) -> np.ndarray:
    """Pulses through two resonances, with some noise, as a voice has."""
    samples = np.zeros(int(seconds * RATE))
    samples[:: int(RATE / hertz)] = 1.0
    for centre, width in ((600.0, 80.0), (1400.0, 120.0)):
        radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * centre / RATE
        for n in range(2, len(samples)):
            samples[n] += 2 * radius * np.cos(angle) * samples[n - 1] - radius**2 * samples[n - 2]
    return 0.3 * samples / np.abs(samples).max() + 1e-4 * np.random.default_rng(0).normal(size=len(samples))


def pitch_of(samples: np.ndarray) -> float:
    return median_pitch(parselmouth.Sound(samples.astype(np.float64), RATE), 60.0, 600.0)[1]


def test_a_high_voice_becomes_lower_and_a_low_one_higher():
    for hertz, high in ((210.0, True), (110.0, False)):
        to = voice("x", 1, high)
        other = converted(vowel(hertz), RATE, to)
        assert abs(len(other) - int(0.8 * RATE)) <= RATE // 100
        assert abs(pitch_of(other) / (hertz * to.pitch) - 1.0) < 0.1
    assert (converted(vowel(210.0), RATE, to) == converted(vowel(210.0), RATE, to)).all()
    assert voice("x", 1, True) == voice("x", 1, True) != voice("x", 2, True)


def test_rows_names_and_speakers_stay(tmp_path: Path):
    rows = []
    for n, (speaker, hertz, split, emotion) in enumerate(
        [("a", 210.0, "train", "neutral"), ("a", 230.0, "train", "Angry"), ("b", 110.0, "train", "Neutral"), ("b", 110.0, "test_seen", "sad"), ("hum", 60.0, "train", "background")]
    ):
        soundfile.write(tmp_path / f"u{n}.wav", vowel(hertz), RATE)
        rows.append({"path": f"u{n}.wav", "corpus": "x", "speaker": speaker, "emotion": emotion, "split": split})
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "out"
    tool = Path(__file__).with_name("convert.py")
    subprocess.run([sys.executable, tool, tmp_path / "manifest.csv", out, "--processes", "1"], check=True, capture_output=True)
    found = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    strip = lambda lines: [{k: v for k, v in line.items() if k != "path"} for line in lines]  # noqa: E731
    assert strip(found) == strip(rows)
    assert [Path(line["path"]).stem for line in found] == [f"u{n}" for n in range(5)]
    assert [(out / line["path"]).resolve() == (tmp_path / f"u{n}.wav").resolve() for n, line in enumerate(found)] == [False, False, False, True, True]
    heard = [pitch_of(soundfile.read(out / line["path"])[0]) for line in found[:3]]
    assert heard[0] < 150 and heard[1] < 165 and heard[2] > 150, heard
