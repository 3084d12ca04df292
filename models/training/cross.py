#!/usr/bin/env python3
"""How well emotions are told in a corpus from whose emotions nothing was learnt.

    cross.py FEATURES... --test FEATURES --model MODEL.onnx [--seeds 1 2 3]
    cross.py FEATURES... --test FEATURES --runs RUN... [--whole RUN...]

With --model it is the listener to the sound (functionals, emotions.py) that is judged, for each corpus in turn: it learns here from the voices of all the
others. Of the exported network only its answer to where somebody speaks is used, which was learnt from all corpora, but not from their emotions.

With --runs it is the whole network: each run has learnt from all voices but those of one corpus (train.py --without CORPUS --opinion 0
--finish-opinion 0: the judges whose opinion that is have learnt from every corpus; the teacher's other lessons know no emotions, but the directions in which it is
heard were chosen on clips of all corpora). Its listeners learn here from the same voices. --whole names runs of the same recipe and seeds that have
left nothing out. All learn from as many clips, of which the table says how many, and their listeners for as many steps.

The picture is left out. Each test split stands by itself: all its speakers are strangers where nothing was learnt from the corpus; else those of test_seen are known. What was
chosen for the recipe was chosen with validation speakers of all three corpora. `make cross` does it all.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

import checkpoint
import emotions
from data import DataError, Table, digest_of, load
from evaluate import recall_mean
from gap import TESTS, cell, emotional
from model import PICTURE_SHARE, SOUND_SHARE, GatedConformer, Listener, Shape
from parts import completed
from recover import Unknown, network_of
from runtime import quicken

NO_LOG = Path(os.devnull)
NETWORK, SOUND = 0, 1
Figures = tuple[int, float, float]  # clips, accuracy and unweighted average recall in percent


class Ears:
    """What a network hears in the training rows and in the test rows, and their emotions."""

    def __init__(self, model: GatedConformer, table: Table, test: Table, threshold: float):
        self.shape = model.shape
        rows = emotional(table, "train")
        self.corpus, self.label = table.corpus[rows], table.label[rows]
        self.clips = emotions.listen(model, table, rows, threshold, NO_LOG)
        self.test = {}
        for split in TESTS:
            rows = emotional(test, split)
            self.test[split] = (test.corpus[rows], test.label[rows], emotions.listen(model, test, rows, threshold, NO_LOG))

    def learnt(self, which: int, without: str, seed: int) -> Listener:
        """The listener to the network or to the sound that has learnt from all voices but those of one corpus, in as many steps as from all."""
        settings = emotions.defaults()
        torch.manual_seed(seed)
        body = emotions.listeners(self.shape, settings)[which]
        chosen = np.flatnonzero(self.corpus != without)
        weight = emotions.shares(self.corpus[chosen], settings.balance)
        course = emotions.courses(settings)[which]
        course = replace(course, epochs=round(course.epochs * len(self.corpus) / len(chosen)))
        emotions.learn(body, self.clips[which][chosen], torch.from_numpy(self.label[chosen]), weight, course, settings, NO_LOG)
        return body.eval()

    def told(self, bodies: dict[int, Listener], split: str, corpus: str) -> dict[str, Figures]:
        """Of one corpus in a test split, by who is asked; nothing where it has no clip."""
        names, labels, clips = self.test[split]
        chosen = np.flatnonzero(names == corpus)
        if not chosen.size:
            return {}
        truth, found = labels[chosen], {}
        for judge, odds in judges({which: clips[which][chosen] for which in bodies}, bodies).items():
            guess = odds.argmax(1).numpy()
            found[judge] = (truth.size, 100.0 * float((guess == truth).mean()), 100.0 * recall_mean(truth, guess))
        return found


def judges(clips: dict[int, Tensor], bodies: dict[int, Listener]) -> dict[str, Tensor]:
    """Odds of the emotions by the listener to the sound; or by that to the network, and by both as they are mixed in a release."""
    with torch.inference_mode():
        odds = {which: body(clips[which].float()) for which, body in bodies.items()}
    if NETWORK not in odds:
        return {"the sound": odds[SOUND]}
    return {"the network": odds[NETWORK], "network and sound": (1.0 - SOUND_SHARE - PICTURE_SHARE) * odds[NETWORK] + SOUND_SHARE * odds[SOUND]}


class Report:
    """Figures by corpus, judge and split, of what has left the corpus out and of what has not; every seed adds to them, and tells its own at once."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], tuple[list[Figures], list[Figures]]] = {}
        self.clips: dict[str, list[str]] = {}

    def add(self, ears: Ears, bodies: dict[int, Listener], corpus: str, known: bool) -> None:
        for split in TESTS:
            for judge, figures in ears.told(bodies, split, corpus).items():
                self.found.setdefault((corpus, judge, split), ([], []))[int(known)].append(figures)
                learnt = "all learnt from" if known else "nothing learnt from it"
                print(f"{corpus}, {judge}, {split}, {learnt}: {figures[1]:.1f} %, UAR {figures[2]:.1f} %", file=sys.stderr, flush=True)

    def lines(self) -> list[str]:
        lines = ["| corpus, told by | split | n | nothing learnt from it: accuracy, UAR | all learnt from |", "| --- | --- | --- | --- | --- |"]
        for (corpus, judge, split), sides in self.found.items():
            cells = [f"{cell([own[1] for own in side])}, {cell([own[2] for own in side])}" if side else "" for side in sides]
            n = next(own[0] for side in sides for own in side)
            lines.append(f"| {corpus}, {judge} | {split.removeprefix('test_')} | {n} | {' | '.join(cells)} |")
        return lines + [f"clips learnt from, {name}: {', '.join(counts)}" for name, counts in self.clips.items()]


def by_sound(report: Report, ears: Ears, seeds: list[int]) -> None:
    """Each corpus by the listener to the sound."""
    for seed in seeds:
        whole = {SOUND: ears.learnt(SOUND, "", seed)}
        for corpus in sorted(set(ears.corpus)):
            report.add(ears, {SOUND: ears.learnt(SOUND, corpus, seed)}, corpus, False)
            report.add(ears, whole, corpus, True)


def run_of(run: Path, data: list[Path]) -> dict:
    """A run's checkpoint, with its settings made whole; stops where it may know a corpus that it has left out."""
    content = checkpoint.load(run / "last.pt")
    settings = content["settings"] = completed(content["settings"])
    if content["step"] < content["steps"]:
        sys.exit(f"{run} is at step {content['step']} of {content['steps']}; run train.py again: it goes on from there")
    if content["data_digest"] not in (digest_of(data[:1]), digest_of(data)):
        sys.exit(f"{run} has learnt from other rows; give the folders that train.py had")
    if content["lap"] or content["before"] or content["master"]:
        sys.exit(f"{run} goes on from weights of another run, or imitates one, which may have learnt from every corpus; train it from nothing")
    if settings["teacher"] > 0 and (settings["opinion"] or settings["finish_opinion"]):
        sys.exit(f"{run} was told opinions of judges who have learnt from every corpus; train it with --opinion 0 --finish-opinion 0")
    return content


def by_network(report: Report, runs: list[dict], whole: list[dict], table: Table, test: Table) -> None:
    """Each corpus by the runs that have left it out, and by those that have not."""
    corpora = sorted({content["settings"]["without"] for content in runs})
    for content in (*runs, *whole):
        settings = content["settings"]
        without = settings["without"]
        threshold = -1.0 if settings["ungated"] else emotions.SETTINGS["threshold"][0]
        ears = Ears(checkpoint.network(content), table, test, threshold)
        bodies = {which: ears.learnt(which, without, settings["seed"]) for which in (NETWORK, SOUND)}
        for corpus in [without] if without else corpora:
            report.add(ears, bodies, corpus, not without)
        report.clips.setdefault(f"without {without}" if without else "all", []).append(str(content["steps"] * settings["batch"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="the features that the runs have learnt from, and others for the listeners")
    parser.add_argument("--test", type=Path, required=True, help="features of the test splits")
    parser.add_argument("--model", type=Path, help="an exported file: every corpus by the sound alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of the listener to the sound (default: 1 2 3)")
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="runs of train.py --without; several of one corpus are averaged over")
    parser.add_argument("--whole", nargs="+", type=Path, default=[], help="runs that have left nothing out")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not arguments.runs and not arguments.model:
        parser.error("nothing to judge: give --runs or --model")
    quicken(arguments.threads)
    try:
        table, test = load(arguments.data), load([arguments.test])
        runs, whole = ([run_of(run, arguments.data) for run in own] for own in (arguments.runs, arguments.whole))
        for content, run in zip((*runs, *whole), (*arguments.runs, *arguments.whole), strict=True):
            if bool(content["settings"]["without"]) == (run in arguments.whole):
                sys.exit(f"{run} has left {content['settings']['without'] or 'nothing'} out; --runs have left a corpus out, --whole none")
        report = Report()
        if arguments.model:
            model = network_of(onnx.load(arguments.model), Shape(emotions=emotions.SETTINGS["hidden"][0]))
            by_sound(report, Ears(model, table, test, emotions.SETTINGS["threshold"][0]), arguments.seeds)
        by_network(report, runs, whole, table, test)
    except (DataError, Unknown) as error:
        sys.exit(str(error))
    print("\n".join(report.lines()))


if __name__ == "__main__":
    main()
