"""The clean voices of a mix, read from the disk a batch at a time."""

import csv
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from encoder import RATE, STEP
from progress import Count

EIGHT_SECONDS = 8 * RATE


class MixError(Exception):
    """A mix without its clean voices; the message says what to do."""


def paths(mix: Path, features: Path) -> dict[int, Path]:
    """Row of `features` -> the clean voice of its clip in `mix`; rows of background have none."""
    with open(features / "index.csv", encoding="utf-8") as file:
        index = list(csv.DictReader(file))
    found = {n: mix / "dry" / line["path"] for n, line in enumerate(index) if line["kind"] != "background"}
    if not found or not next(iter(found.values())).exists():
        raise MixError(f"{mix}/dry has no clips of {features}; make them with `undertone corpus mix --dry`")
    return found


def read(path: Path) -> np.ndarray:
    """Samples at 16 kHz, at most 8 s."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(min(file.getnframes(), EIGHT_SECONDS)), np.int16).astype(np.float32) / 32768.0


def spoken(samples: np.ndarray) -> np.ndarray:
    """Which of the encoder's frames of 20 ms hold the voice: those within 40 dB of the loudest."""
    power = np.square(np.pad(samples, (0, -len(samples) % STEP)).reshape(-1, STEP)).mean(1)
    return power > max(power.max() * 1e-4, 1e-9)


def ending_together(clips: list[np.ndarray]) -> np.ndarray:
    """[B, 128000]: clips of up to 8 s with zeros before them, since the encoder was trained on clips that end where the speaker does."""
    rows = np.zeros((len(clips), EIGHT_SECONDS), np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[EIGHT_SECONDS - len(clip) :] = clip
    return rows


def batches(files: list[Path], size: int = 64, workers: int = 8) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """(which of `files`, their samples), reading ahead and telling how far it is."""
    count = Count(len(files), "clips")

    def clips_from(start: int) -> list[np.ndarray]:
        return [read(file) for file in files[start : start + size]]

    with ThreadPoolExecutor(workers) as pool:
        starts = range(0, len(files), size)
        ahead = [pool.submit(clips_from, start) for start in starts[:4]]
        for number, start in enumerate(starts):
            clips = ahead[number].result()
            ahead[number] = None
            if number + 4 < len(starts):
                ahead.append(pool.submit(clips_from, starts[number + 4]))
            yield slice(start, start + len(clips)), clips
            count.reach(start + len(clips))
