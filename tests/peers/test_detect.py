"""The peers themselves, on a sound that is speech to nobody and on one that is.

    make test-peers
"""

import csv
import math
import random
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from detect import Silero

HERE = Path(__file__).parent
RATE = 16_000


def write(path: Path, samples: list[float]) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(b"".join(struct.pack("<h", int(32767 * x)) for x in samples))


def voice(seconds: float) -> list[float]:
    """A buzz through three formants that move, four syllables a second: near enough to speech."""
    rng = random.Random(1)
    out, state = [], [[0.0, 0.0] for _ in range(3)]
    for i in range(int(seconds * RATE)):
        t = i / RATE
        pitch = 120 * (1 + 0.1 * math.sin(2 * math.pi * 2.3 * t))
        buzz = (1.0 if (t * pitch) % 1.0 < 0.05 else 0.0) + 0.02 * rng.uniform(-1, 1)
        open_ = 0.5 - 0.5 * math.cos(2 * math.pi * 4 * t)
        formants = [300 + 500 * open_, 1100 + 700 * math.sin(2 * math.pi * 1.3 * t), 2500]
        y = buzz * open_
        for memory, hz in zip(state, formants, strict=True):
            r, w = math.exp(-math.pi * 90 / RATE), 2 * math.pi * hz / RATE
            y = (1 - r) * y + 2 * r * math.cos(w) * memory[0] - r * r * memory[1]
            memory[1], memory[0] = memory[0], y
        out.append(y)
    peak = max(abs(x) for x in out)
    return [0.5 * x / peak for x in out]


def test_a_pause_ends_a_segment_as_in_the_package() -> None:
    """From the start of the first silent chunk to that of the chunk that ends it: 100 ms are five chunks of 32 ms."""
    for silent, segments in ((4, 1), (5, 2)):
        detector = Silero(0.1)
        chunks = [1.0] * 10 + [0.0] * silent + [1.0] * 10
        found = [segment for chunk in chunks for segment in detector.judge(chunk)] + list(detector.finish())
        assert len(found) == segments, (silent, found)
    detector = Silero(0.1)
    found = [segment for chunk in [1.0] * 4 + [0.0] * 9 for segment in detector.judge(chunk)]
    assert found == [(0.0, None, 0.032)], "too short: told, and thrown away"


@pytest.mark.parametrize("detector", ["silero", "webrtc"])
def test_a_voice_between_hisses_is_found(detector: str, tmp_path: Path) -> None:
    rng = random.Random(2)
    hiss = [0.0005 * rng.uniform(-1, 1) for _ in range(4 * RATE)]
    write(tmp_path / "a.wav", hiss + voice(3.0) + hiss)
    write(tmp_path / "b.wav", hiss)
    out = tmp_path / "out.csv"
    (tmp_path / "labels.csv").write_text("recording\na.wav\nb.wav\n")
    subprocess.run([sys.executable, HERE / "detect.py", detector, tmp_path, out], check=True)
    rows = list(csv.DictReader(out.open()))
    assert {row["recording"] for row in rows if row["cpu_s"]} == {"a.wav", "b.wav"}
    found = [(float(r["start_s"]), float(r["end_s"]), float(r["told_s"])) for r in rows if r["end_s"]]
    assert found, "the voice was not found"
    inside = sum(min(end, 7.0) - max(start, 4.0) for start, end, _ in found if start < 7.0)
    assert inside > 1.5, found
    assert all(start < told <= end + 0.5 for start, end, told in found), found
