#!/usr/bin/env python3
"""How listeners would judge each clip's emotion, from what the teacher hears in it.

    opinion.py FEATURES     after teacher.py

A small network learns the emotions from the teacher's components of whole clips (teacher-clip.npy), nine times, each
time without a ninth of the speakers, who are then judged by it; and nine times without a ninth of the utterances, by
listeners who know the voice. Such opinions say which clips are hard to tell apart, which a label does not, and none
was taught the clip it judges. Writes FEATURES/teacher-class.npy, float16 [N, 6]: log of the mean of the two opinions, as
probabilities of the emotions; 0 where nobody speaks, and for the validation speakers.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import NO_LABEL, Table, load
from model import BACKGROUND

EMOTIONS = BACKGROUND  # the labels before it
PARTS = 9
BATCH = 256


def judge(inputs: int, hidden: int = 512, dropout: float = 0.7) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout / 2), nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, EMOTIONS)
    )


def weights(table: Table, rows: np.ndarray) -> np.ndarray:
    """Chances of the rows, so that a corpus of n clips is drawn in proportion to the root of n."""
    _, corpus, sizes = np.unique(table.corpus[rows], return_inverse=True, return_counts=True)
    chances = 1.0 / np.sqrt(sizes[corpus])
    return chances / chances.sum()


def fit(table: Table, clips: Tensor, rows: np.ndarray, rng: np.random.Generator, epochs: int = 15) -> nn.Sequential:
    """A judge of these rows; learns from mixtures of two clips (Zhang et al. 2018)."""
    network = judge(clips.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.3)
    steps = max(1, len(rows) // BATCH) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps + 1)
    chances = weights(table, rows)
    for _ in range(steps):
        drawn = rng.choice(rows, BATCH, p=chances)
        x, y = clips[drawn], F.one_hot(torch.from_numpy(table.label[drawn]), EMOTIONS).float()
        share, other = float(rng.beta(0.4, 0.4)), torch.from_numpy(rng.permutation(BATCH))
        x, y = share * x + (1 - share) * x[other], share * y + (1 - share) * y[other]
        loss = F.cross_entropy(network(x), y, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def parts(table: Table, rows: np.ndarray, by: str) -> list[np.ndarray]:
    """The rows in nine parts: all of a speaker, or all of an utterance, in one; some of every corpus in each."""
    column = getattr(table, by)
    groups = sorted({(corpus, group) for corpus, group in zip(table.corpus[rows], column[rows], strict=True)})
    if by == "utterance":
        np.random.default_rng(0).shuffle(groups)
    return [rows[np.isin(column[rows], [group for _, group in groups[n::PARTS]])] for n in range(PARTS)]


def opinions_of(table: Table, clips: Tensor, voices: np.ndarray, by: str) -> np.ndarray:
    """Probabilities [N, 6] for these rows, each by a judge that was not taught its speaker, or its utterance."""
    rng = np.random.default_rng(0)
    told = np.zeros((len(table), EMOTIONS), np.float32)
    labelled = (table.label != NO_LABEL) & (table.label != BACKGROUND)
    for number, own in enumerate(parts(table, voices, by), 1):
        others = np.setdiff1d(voices, own)
        network = fit(table, clips, others[labelled[others]], rng)
        with torch.inference_mode():
            told[own] = network(clips[own]).softmax(1).numpy()
        known = right(table, clips, network, own[labelled[own]])
        print(f"part {number} of {PARTS} by {by}: judged right, %: {known}", flush=True)
    return told


def right(table: Table, clips: Tensor, network: nn.Sequential, rows: np.ndarray) -> dict[str, float]:
    with torch.inference_mode():
        guess = network(clips[rows]).argmax(1).numpy()
    good = guess == table.label[rows]
    return {str(c): round(100 * float(good[table.corpus[rows] == c].mean()), 1) for c in np.unique(table.corpus[rows])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    folder = parser.parse_args().features
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = load([folder])
    clips = torch.from_numpy(np.load(folder / "teacher-clip.npy").astype(np.float32))
    heard = clips.abs().sum(1).numpy() > 0
    voices = table.rows("train")
    voices = voices[heard[voices]]
    opinions = np.zeros((len(table), EMOTIONS), np.float16)
    both = [opinions_of(table, clips, voices, by)[voices] for by in ("speaker", "utterance")]
    opinions[voices] = np.log(np.mean(both, 0).clip(1e-6))
    np.save(folder / "teacher-class.npy", opinions)


if __name__ == "__main__":
    main()
