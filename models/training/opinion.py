#!/usr/bin/env python3
"""How a listener who does not know the speaker would judge each clip, from what the teacher hears in it.

    opinion.py FEATURES     after teacher.py

A small network learns the emotions from the teacher's components of whole clips (teacher-clip.npy), nine times, each
time without a ninth of the speakers; those are then judged by it. Such opinions say which clips are hard to tell apart,
which a label does not, and they cannot lean on knowing a voice. Writes FEATURES/teacher-class.npy, float16 [N, 6]: log
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


def parts(table: Table, rows: np.ndarray) -> list[np.ndarray]:
    """The rows' speakers in nine groups, each with some of every corpus."""
    speakers = sorted({(corpus, speaker) for corpus, speaker in zip(table.corpus[rows], table.speaker[rows], strict=True)})
    return [np.array([speaker for _, speaker in speakers[n::PARTS]]) for n in range(PARTS)]


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
    rng = np.random.default_rng(0)
    table = load([folder])
    clips = torch.from_numpy(np.load(folder / "teacher-clip.npy").astype(np.float32))
    heard = clips.abs().sum(1).numpy() > 0
    voices = table.rows("train")
    voices = voices[heard[voices]]
    labelled = voices[(table.label[voices] != NO_LABEL) & (table.label[voices] != BACKGROUND)]
    opinions = np.zeros((len(table), EMOTIONS), np.float16)
    for number, speakers in enumerate(parts(table, labelled), 1):
        others = labelled[~np.isin(table.speaker[labelled], speakers)]
        own = voices[np.isin(table.speaker[voices], speakers)]
        network = fit(table, clips, others, rng)
        with torch.inference_mode():
            opinions[own] = network(clips[own]).log_softmax(1).numpy()
        print(f"part {number} of {PARTS}: unknown speakers judged right, %:", right(table, clips, network, np.intersect1d(own, labelled)), flush=True)
    np.save(folder / "teacher-class.npy", opinions)


if __name__ == "__main__":
    main()
