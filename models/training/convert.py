#!/usr/bin/env python3
"""Every utterance of the train split again, in the voice of somebody of the other sex: as many new speakers as there are.

    convert.py MANIFEST OUT [--copy N]      writes OUT/audio and OUT/manifest.csv

A speaker's formants are moved and the pitch is set higher or lower (Praat's "Change gender": overlap-add after Moulines and
Charpentier 1990; Boersma and Weenink), by ratios that are drawn once for a speaker and a copy, so that who raises the voice in
anger still does. Speakers whose neutral sentences have a median pitch above 160 Hz become lower, the others higher. The
manifest lists the same rows in the same order with the same speakers and names, so what is held back of the corpus is held
back of its converted voices, too (data.py).
"""

import argparse
import csv
import hashlib
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import parselmouth
import soundfile
from parselmouth.praat import call, run

from model import BACKGROUND, LABELS
from progress import Count

# Other names of labels that `undertone` knows, in any case (models/EVALUATE.md).
ALSO = {"angry": "anger", "happiness": "happy", "joy": "happy", "sadness": "sad", "fearful": "fear", "disgusted": "disgust"}
HIGH_HZ = 160.0  # median pitch in neutral sentences: who is above it becomes lower
SENTENCES = 12  # of a speaker that are listened to for it
VOICED = 5  # frames with a pitch below which there is none to move


@dataclass(frozen=True)
class Voice:
    """What a speaker is changed by."""

    formants: float  # ratio
    pitch: float  # ratio
    floor_hz: float  # where the speaker's own pitch is looked for
    ceiling_hz: float


def voice(speaker: str, copy: int, high: bool) -> Voice:
    """Drawn from the speaker's name and the copy's number, always the same."""
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{speaker}/{copy}".encode()).digest()[:8], "little"))
    if high:
        return Voice(float(draw.uniform(0.80, 0.91)), float(draw.uniform(0.5, 0.66)), 90.0, 700.0)
    return Voice(float(draw.uniform(1.10, 1.22)), float(draw.uniform(1.55, 2.0)), 60.0, 450.0)


def median_pitch(sound: parselmouth.Sound, floor_hz: float, ceiling_hz: float) -> tuple[parselmouth.Pitch, float]:
    """The pitch, and its median over voiced frames; 0 where there are too few."""
    pitch = sound.to_pitch_ac(pitch_floor=floor_hz, pitch_ceiling=ceiling_hz)
    found = pitch.selected_array["frequency"]
    found = found[found > 0]
    return pitch, float(np.median(found)) if len(found) > VOICED else 0.0


def converted(samples: np.ndarray, rate: int, to: Voice) -> np.ndarray:
    """One channel of samples in another voice, as long as they were; what has no pitch keeps it."""
    run("random_initializeWithSeedUnsafelyButPredictably (1)")  # voiceless sounds are made of random pieces
    sound = parselmouth.Sound(samples.astype(np.float64), rate)
    pitch, median = median_pitch(sound, to.floor_hz, to.ceiling_hz)
    other = call([sound, pitch], "Change gender", to.formants, median * to.pitch, 1.0, 1.0).values[0]
    return (other / max(1.0, np.abs(other).max() / 0.99)).astype(np.float32)


def label_of(name: str) -> str:
    """A label by its name, or by another name that corpora have for it, as `undertone` reads manifests."""
    name = name.strip().lower()
    return ALSO.get(name, name)


def read(path: Path) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    return samples.mean(1), rate


def is_high(paths: list[Path]) -> bool:
    chosen = np.random.default_rng(0).choice(len(paths), min(SENTENCES, len(paths)), replace=False)
    medians = [median_pitch(parselmouth.Sound(*read(paths[n])), 60.0, 600.0)[1] for n in chosen]
    return float(np.median([found for found in medians if found] or [0.0])) > HIGH_HZ


def write(out: Path, job: tuple[Path, Voice]) -> Path:
    source, to = job
    samples, rate = read(source)
    name = Path("audio") / f"{source.stem}.flac"
    try:
        samples = converted(samples, rate, to)
    except parselmouth.PraatError as error:  # shorter than three periods of the lowest pitch
        print(f"\n{source}: left as it is ({str(error).splitlines()[0]})", file=sys.stderr)
    soundfile.write(out / name, samples, rate)
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--copy", type=int, default=1, help="each number gives other speakers (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=None, help="default: one for each core")
    arguments = parser.parse_args()
    try:
        lines = list(csv.DictReader(arguments.manifest.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        sys.exit(f"{arguments.manifest}: {error.strerror}")
    folder = arguments.manifest.parent.resolve()
    for line in lines:
        line["path"] = str(folder / line["path"])
    spoken = [line for line in lines if line["split"] == "train" and label_of(line["emotion"]) in LABELS[:BACKGROUND]]
    if not spoken:
        sys.exit(f"{arguments.manifest}: no labelled speech in split `train`")
    if len({Path(line["path"]).stem for line in spoken}) < len(spoken):
        sys.exit(f"{arguments.manifest}: two files of the train split have the same name; their converted voices would, too")
    neutral = defaultdict(list)
    for line in spoken:
        if label_of(line["emotion"]) == "neutral":
            neutral[line["speaker"]].append(Path(line["path"]))
    (arguments.out / "audio").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.processes) as pool:
        high = dict(zip(neutral, pool.map(is_high, neutral.values()), strict=True))
        jobs = [(Path(line["path"]), voice(line["speaker"], arguments.copy, high.get(line["speaker"], False))) for line in spoken]
        count = Count(len(spoken), "utterances")
        for done, (line, name) in enumerate(zip(spoken, pool.map(partial(write, arguments.out), jobs, chunksize=16), strict=True), 1):
            line["path"] = str(name)
            count.reach(done)
    with open(arguments.out / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
