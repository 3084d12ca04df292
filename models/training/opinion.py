#!/usr/bin/env python3
"""How a listener who does not know the speaker would judge each clip.

    opinion.py FEATURES...     after teacher.py has written its lessons into each of them

A judge is a small network that learns the emotions from the teacher's lessons of clips (teacher-clip.npy), each judge without a
part of the speakers, who are then judged by it. Such opinions say which clips are hard to tell apart, which a label does not,
and they cannot lean on knowing a voice. No judge of a speaker that is trained on has heard the validation speakers; they are
judged by those who have heard all the others, which is also the figure that tells how good a teacher this is.
Where they contradict the label they are left out: they are wrong there, and cost what is known of a voice (EXPERIMENTS.md).
Writes FEATURES/teacher-class.npy, float16 [N, 6]: log probabilities of the emotions, the same for all clips of an utterance; 0 where
nobody speaks or the opinion is left out. Some minutes on one core.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import NO_LABEL, VALIDATION_SPEAKERS, DataError, Table, load, save_array
from model import BACKGROUND
from objective import learning_rate
from runtime import quicken

EMOTIONS = BACKGROUND  # the labels before it
PARTS = 5


@dataclass(frozen=True)
class Schooling:
    """How a judge is trained."""

    clips: int = 300_000
    batch: int = 256
    hidden: int = 256
    rate: float = 1e-3
    decay: float = 0.05
    dropout: float = 0.5
    smoothing: float = 0.1
    mixed: float = 0.4  # of Beta(mixed, mixed), in whose shares pairs of clips are mixed (Zhang et al. 2018)


def taught(lessons: Tensor, labels: Tensor, chances: np.ndarray, schooling: Schooling, seed: int) -> nn.Module:
    """A judge who has learnt from lessons [n, C] with labels [n], drawn with these chances: lessons [B, C] -> logits [B, 6]."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    drop = nn.Dropout(schooling.dropout)
    judge = nn.Sequential(drop, nn.Linear(lessons.shape[1], schooling.hidden), nn.SiLU(), drop, nn.Linear(schooling.hidden, EMOTIONS))
    optimizer = torch.optim.AdamW(judge.parameters(), schooling.rate, weight_decay=schooling.decay)
    targets = F.one_hot(labels, EMOTIONS).float()
    steps = max(1, schooling.clips // schooling.batch)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, schooling.rate)
        rows, other = torch.from_numpy(rng.choice(len(lessons), (2, schooling.batch), p=chances))
        share = float(rng.beta(schooling.mixed, schooling.mixed))
        x, target = (torch.lerp(each[other], each[rows], share) for each in (lessons, targets))
        loss = F.cross_entropy(judge(x), target, label_smoothing=schooling.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return judge.eval()


def chances(table: Table, rows: np.ndarray) -> np.ndarray:
    """Chances of the rows, so that a corpus of n clips is drawn in proportion to the root of n."""
    _, corpus, sizes = np.unique(table.corpus[rows], return_inverse=True, return_counts=True)
    chances = 1.0 / np.sqrt(sizes[corpus])
    return chances / chances.sum()


def parts(table: Table, rows: np.ndarray, count: int = PARTS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of (speakers to learn from, speakers to judge): the rows' speakers in groups, each with some of every corpus, and last
    the validation speakers."""
    found = sorted({(corpus, speaker) for corpus, speaker in zip(table.corpus[rows], table.speaker[rows], strict=True)})
    known = [speaker for _, speaker in found if speaker not in VALIDATION_SPEAKERS]
    for part in range(count):
        judged = known[part::count]
        yield np.array([s for s in known if s not in judged]), np.array(judged)
    yield np.array(known), np.array([s for _, s in found if s in VALIDATION_SPEAKERS])


def agreed(table: Table, opinions: np.ndarray) -> np.ndarray:
    """Opinions on clips [N, 6] -> on the utterances of each folder, the mean of what is said of their clips; 0 where that
    contradicts the label, which is that of the utterance: some of its windows have none of their own."""
    told, found = (opinions != 0).any(1), np.zeros_like(opinions)
    names, utterance = np.unique(np.char.add(np.char.add(table.folder.astype(str), "/"), table.utterance), return_inverse=True)
    sums, label = np.zeros((len(names), opinions.shape[1])), np.full(len(names), NO_LABEL)
    np.add.at(sums, utterance[told], np.exp(opinions[told].astype(np.float64)))
    known = (table.label >= 0) & (table.label < EMOTIONS)
    label[utterance[known]] = table.label[known]
    told &= ((label == NO_LABEL) | (label == sums.argmax(1)))[utterance]
    own = sums[utterance[told]]
    found[told] = np.log(own / own.sum(1, keepdims=True))
    return found


def right(table: Table, rows: np.ndarray, opinion: np.ndarray) -> dict[str, float]:
    """Share of labelled utterances of the first folder that are judged as labelled, by corpus, in %."""
    own = (table.label[rows] != NO_LABEL) & (table.kind[rows] == "utterance") & (table.folder[rows] == 0)
    good, corpus = opinion[own].argmax(1) == table.label[rows[own]], table.corpus[rows[own]]
    return {str(c): round(100 * float(good[corpus == c].mean()), 1) for c in np.unique(corpus)}


def heard(folders: list[Path]) -> np.ndarray:
    """The teacher's lessons of all clips, [N, C]; 0 where nobody speaks."""
    try:
        return np.concatenate([np.load(folder / "teacher-clip.npy") for folder in folders]).astype(np.float32)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; teacher.py writes it") from error


def judged(table: Table, lessons: np.ndarray, schooling: Schooling, count: int) -> np.ndarray:
    """What `count` judges think of each clip, who do not know its speaker: log probabilities of the emotions [N, 6]; 0 for
    clips without a voice and of other splits."""
    voices = np.flatnonzero(lessons.any(1) & (table.split == "train"))
    learnt_from = np.intersect1d(table.rows("train"), voices)
    learnt_from = learnt_from[(table.label[learnt_from] >= 0) & (table.label[learnt_from] < EMOTIONS)]
    opinions = np.zeros((len(table), EMOTIONS), np.float16)
    for number, (learnt, asked) in enumerate(parts(table, voices)):
        rows = learnt_from[np.isin(table.speaker[learnt_from], learnt)]
        own = voices[np.isin(table.speaker[voices], asked)]
        if not rows.size or not own.size:  # few speakers, or none for validation
            continue
        told = []
        for turn in range(count):
            judge = taught(torch.from_numpy(lessons[rows]), torch.from_numpy(table.label[rows]), chances(table, rows), schooling, number * 100 + turn)
            with torch.inference_mode():
                told.append(judge(torch.from_numpy(lessons[own])).softmax(1).numpy())
        opinions[own] = np.log(np.mean(told, 0))
        print(f"part {number + 1} of {PARTS + 1}: unknown speakers judged right, %: {right(table, own, opinions[own])}", flush=True)
    return opinions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="+", type=Path, help="folders of features with the teacher's lessons")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=Schooling.clips, help="that each judge learns from (default: %(default)s)")
    parser.add_argument("--dropout", type=float, default=Schooling.dropout, help="default: %(default)s")
    parser.add_argument("--judges", type=int, default=2, help="for each part of the speakers; their mean counts (default: %(default)s)")
    arguments = parser.parse_args()
    quicken(arguments.threads)
    try:
        table, lessons = load(arguments.features), heard(arguments.features)
    except DataError as error:
        sys.exit(str(error))
    if len(lessons) != len(table):
        sys.exit("the teacher's lessons are of other rows than index.csv; run teacher.py again")
    opinions = agreed(table, judged(table, lessons, Schooling(clips=arguments.clips, dropout=arguments.dropout), arguments.judges))
    print(f"{(opinions != 0).any(1).sum()} of {lessons.any(1).sum()} clips with an opinion that does not contradict the label")
    for number, folder in enumerate(arguments.features):
        save_array(folder / "teacher-class.npy", opinions[table.folder == number])


if __name__ == "__main__":
    main()
