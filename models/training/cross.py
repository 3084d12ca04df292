#!/usr/bin/env python3
"""How well emotions are told in a corpus of which no voice was learnt from.

    cross.py FEATURES... --test FEATURES --runs RUN... [--model MODEL.onnx] [--seeds 1 2 3]

Each run has learnt from all voices but those of one corpus (train.py --without CORPUS --opinion 0 --finish-opinion 0: the judges whose opinion
that is have learnt from every corpus). The listeners to the network and to the sound (emotions.py) learn here from the same voices, and are
judged on both test splits of that corpus, all of whose speakers are strangers then. With --model the listener to the sound is judged in this way for every
corpus, without runs; of an exported file it takes only where voices are, which it has not learnt from emotions. The picture is left out.

Beside that: what is told where all corpora were learnt from, of known and of unknown voices. Mean and spread over the seeds. `make cross` does it all.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

import checkpoint
import emotions
from data import DataError, Table, load
from evaluate import recall_mean
from functionals import SIZE
from gap import TESTS, cell, emotional
from model import DEPTH, PICTURE_SHARE, SOUND_SHARE, GatedConformer, Listener, Shape
from recover import Unknown, network_of
from runtime import quicken

NO_LOG = Path(os.devnull)


class Ears:
    """What a network hears in the training rows and in the test rows, and their emotions."""

    def __init__(self, model: GatedConformer, table: Table, test: Table, threshold: float):
        self.shape = model.shape
        self.rows = emotional(table, "train")
        self.corpus, self.label = table.corpus[self.rows], table.label[self.rows]
        self.clips = emotions.listen(model, table, self.rows, threshold, NO_LOG)
        self.test = {}
        for split in TESTS:
            rows = emotional(test, split)
            self.test[split] = (test.corpus[rows], test.label[rows], emotions.listen(model, test, rows, threshold, NO_LOG))

    def learnt(self, which: int, without: str, seed: int) -> Listener:
        """The listener to the network (0) or to the sound (1) that has learnt from all voices but those of one corpus."""
        settings = argparse.Namespace(**{name: value for name, (value, _) in emotions.SETTINGS.items()})
        torch.manual_seed(seed)
        sizes = ((2 * self.shape.width * (1 + self.shape.blocks // DEPTH), settings.hidden), (SIZE, settings.sound))
        body = Listener(*sizes[which])
        chosen = np.flatnonzero(self.corpus != without)
        own, corpora = np.unique(self.corpus[chosen], return_inverse=True)
        weight = torch.from_numpy((np.bincount(corpora, minlength=len(own)) ** (settings.balance - 1.0))[corpora]).float()
        course = emotions.courses(settings)[which]
        emotions.learn(body, self.clips[which][chosen], torch.from_numpy(self.label[chosen]), weight, course, settings, NO_LOG)
        return body.eval()

    def told(self, bodies: dict[int, Listener], splits: tuple[str, ...], corpus: str) -> dict[str, tuple[float, float]]:
        """Accuracy and unweighted average recall in percent on a corpus, by judge."""
        labels, odds = [], {}
        for split in splits:
            names, own, clips = self.test[split]
            chosen = np.flatnonzero(names == corpus)
            labels.append(own[chosen])
            for judge, values in judges({which: clips[which][chosen] for which in bodies}, bodies).items():
                odds.setdefault(judge, []).append(values)
        truth = np.concatenate(labels)
        if not truth.size:
            return {}
        guesses = {judge: torch.cat(values).argmax(1).numpy() for judge, values in odds.items()}
        return {judge: (100.0 * float((guess == truth).mean()), 100.0 * recall_mean(truth, guess)) for judge, guess in guesses.items()}

    def count(self, corpus: str) -> int:
        return sum(int((names == corpus).sum()) for names, _, _ in self.test.values())


def judges(clips: dict[int, Tensor], bodies: dict[int, Listener]) -> dict[str, Tensor]:
    """Odds of the emotions by who is asked: each listener, and both as they are mixed in a release."""
    with torch.inference_mode():
        odds = {which: body(clips[which].float()) for which, body in bodies.items()}
    found = {("the network", "the sound")[which]: own for which, own in odds.items()}
    if len(odds) == 2:
        found["both"] = (1.0 - SOUND_SHARE - PICTURE_SHARE) * odds[0] + SOUND_SHARE * odds[1]
    return found


def line(corpus: str, judge: str, n: int, columns: list[list[tuple[float, float]]]) -> str:
    """A row of the table; each column has the figures of every seed, or none."""
    cells = [f"{cell([own[0] for own in column])}, {cell([own[1] for own in column])}" if column else "" for column in columns]
    return f"| {corpus}, {judge} | {n} | {' | '.join(cells)} |"


def crossed(ears: Ears, corpora: list[str], which: tuple[int, ...], seeds: list[int], beside: bool) -> list[str]:
    """Rows of the table for these corpora; `beside`: with what is told where all were learnt from, too."""
    found: dict[tuple[str, str], list[list]] = {}
    for seed in seeds:
        everything = {one: ears.learnt(one, "", seed) for one in which} if beside else {}
        for corpus in corpora:
            bodies = {one: ears.learnt(one, corpus, seed) for one in which}
            sides = [(bodies, TESTS), *((everything, (split,)) for split in TESTS if beside)]
            for column, (own, splits) in enumerate(sides):
                for judge, figures in ears.told(own, splits, corpus).items():
                    found.setdefault((corpus, judge), [[], [], []])[column].append(figures)
    return [line(corpus, judge, ears.count(corpus), columns) for (corpus, judge), columns in found.items()]


def left_out(run: Path) -> tuple[dict, str]:
    """A run's checkpoint, and the corpus that it has not learnt from; stops where there is none."""
    content = checkpoint.load(run / "last.pt")
    settings = content["settings"]
    if not settings.get("without"):
        sys.exit(f"{run} has learnt from all corpora; train it with --without CORPUS")
    if content["lap"] or content["before"] or settings["opinion"] or settings["finish_opinion"]:
        sys.exit(f"{run} knows something of {settings['without']} from weights or opinions of others; train it from nothing with --opinion 0 --finish-opinion 0")
    return content, settings["without"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="the features that the runs have learnt from, and others for the listeners")
    parser.add_argument("--test", type=Path, required=True, help="features of the test splits")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="runs of train.py --without")
    parser.add_argument("--model", type=Path, help="an exported file: every corpus is told by the sound alone, too")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of the listeners (default: 1)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not arguments.runs and not arguments.model:
        parser.error("nothing to judge: give --runs or --model")
    quicken(arguments.threads)
    runs = [left_out(run) for run in arguments.runs]
    lines = ["| corpus, told by | n | nothing learnt from it | all learnt from: known voices | unknown voices |", "| --- | --- | --- | --- | --- |"]
    try:
        table, test = load(arguments.data), load([arguments.test])
        if arguments.model:
            model = network_of(onnx.load(arguments.model), Shape(emotions=emotions.SETTINGS["hidden"][0]))
            ears = Ears(model, table, test, emotions.SETTINGS["threshold"][0])
            lines += crossed(ears, sorted(set(ears.corpus)), (1,), arguments.seeds, True)
        for content, corpus in runs:
            threshold = -1.0 if content["settings"]["ungated"] else emotions.SETTINGS["threshold"][0]
            ears = Ears(checkpoint.network(content), table, test, threshold)
            lines += crossed(ears, [corpus], (0, 1), arguments.seeds, False)
    except (DataError, Unknown) as error:
        sys.exit(str(error))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
