#!/usr/bin/env python3
"""What gates cost in accuracy: runs of one recipe with and without them, seed by seed.

    gap.py FEATURES... --test FEATURES --gated RUN... --ungated RUN... [--picture MODEL.onnx]

The nth run of either kind has the same seed and goes on from the same weights (train.py --ungated --start GATED/shallow.pt, or both with --start OTHER/last.pt). Each is judged by the listeners
to the network and to the sound (emotions.py), which learn here what they learn for a release: from all folders of features, of which
the runs have learnt from the first. The picture is the same for both, and left out unless an exported file is named to take it from.
RUN/gap.json keeps what was found, so that only new runs are judged. `make gap` does it all.

The spread is that of the seeds. The error of a difference is that of the clips: what others of the same corpora would move it by, had the
same networks heard them.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

import checkpoint
import emotions
from data import VALIDATIONS, DataError, Table, load
from evaluate import predict
from model import BACKGROUND, PICTURE_SHARE, SOUND_SHARE, Shape
from parts import completed
from picture import Picture
from recover import Unknown, network_of
from runtime import quicken

TESTS = ("test_seen", "test_unseen")
# What only gates know of; a run without them may have been given something else.
OF_GATES = ("ungated", "imitate", "shut", "drop_gated", "budget", "gate_cost", "background_gate_cost")


def emotional(table: Table, split: str) -> np.ndarray:
    """Rows of a split in which somebody has an emotion; as utterances, unless it is learnt from."""
    rows = table.rows(split)
    rows = rows[(table.label[rows] >= 0) & (table.label[rows] < BACKGROUND)]
    return rows if split == "train" else rows[table.kind[rows] == "utterance"]


def judged(run: Path, table: Table, test: Table, seed: int, picture: Picture | None) -> dict:
    """Accuracy in percent, by judge, split and corpus: what the `network` tells alone, `mixed` with the sound, and the `whole` with the picture.

    And what a gated run skips, in percent, of clips with an emotion and of background.
    """
    content = checkpoint.load(run / "last.pt")
    model = checkpoint.network(content)
    settings = emotions.defaults()
    threshold = -1.0 if content["settings"]["ungated"] else settings.threshold
    rows = emotional(table, "train")
    weight = emotions.shares(table.corpus[rows], settings.balance)
    labels = torch.from_numpy(table.label[rows])
    torch.manual_seed(seed)
    bodies, log = emotions.listeners(model.shape, settings), run / "gap.jsonl"
    clips = emotions.listen(model, table, rows, threshold, log)
    for body, heard, course in zip(bodies, clips, emotions.courses(settings), strict=True):
        emotions.learn(body, heard, labels, weight, course, settings, log)

    def right(where: Table, split: str) -> dict:
        rows = emotional(where, split)
        heard = emotions.listen(model, where, rows, threshold, log)
        with torch.inference_mode():
            network, sound = (body.eval()(clip.float()) for body, clip in zip(bodies, heard, strict=True))
            mixed = (1.0 - SOUND_SHARE - PICTURE_SHARE) * network + SOUND_SHARE * sound
            odds = {"network": network, "mixed": mixed}
            if picture:
                seen = [picture(torch.from_numpy(where.batch(part)[0])).log_softmax(1) for part in np.array_split(rows, -(-len(rows) // 64))]
                odds["whole"] = mixed + PICTURE_SHARE * torch.cat(seen)
        return {name: by_corpus(odds, where, rows) for name, odds in odds.items()}

    def skipped(split: str) -> dict:
        noise = test.rows(split)
        found = {"speech": emotional(test, split), "background": noise[test.label[noise] == BACKGROUND]}
        return {name: 100.0 - 100.0 * float(predict(model, test, rows, threshold)["executed"].mean()) for name, rows in found.items() if rows.size}

    clips = {split: right(table, split) for split in VALIDATIONS} | {split: right(test, split) for split in TESTS}
    found = {split: {judge: {name: 100.0 * of.count("1") / len(of) for name, of in own.items()} for judge, own in judges.items()} for split, judges in clips.items()}
    return {"accuracy": found, "right": clips, "skipped": {split: skipped(split) for split in TESTS}}


def picture_of(file: Path) -> Picture:
    """The picture of an exported file; raises `Unknown`."""
    return network_of(onnx.load(file), Shape(emotions=emotions.SETTINGS["hidden"][0])).emotions.picture


def by_corpus(odds: Tensor, table: Table, rows: np.ndarray) -> dict[str, str]:
    """1 for each clip that is told right, else 0."""
    right = odds.argmax(1).numpy() == table.label[rows]
    return {str(name): "".join("01"[int(told)] for told in right[table.corpus[rows] == name]) for name in np.unique(table.corpus[rows])}


def error(gated: list[dict], ungated: list[dict], splits: tuple[str, ...], judge: str) -> float:
    """Standard error of the mean difference over all corpora of `splits`, in points, by what each clip adds to it."""
    cells = []
    for split in splits:
        for corpus in gated[0]["right"][split][judge]:
            told = [np.array([list(found["right"][split][judge][corpus]) for found in runs], int).mean(0) for runs in (gated, ungated)]
            more = told[0] - told[1]
            cells.append(more.var(ddof=1) / more.size if more.size > 1 else np.nan)
    return 100.0 * float(np.sqrt(np.sum(cells))) / len(cells)


def mean(found: dict, split: str, judge: str) -> float:
    return float(np.mean(list(found["accuracy"][split][judge].values())))


def cell(values: list[float], form: str = ".1f") -> str:
    """Mean and spread (standard deviation) of all seeds."""
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{spread}"


def table_of(gated: list[dict], ungated: list[dict]) -> list[str]:
    """Mean over corpora, by split and judge; of all seeds as mean and spread."""
    lines = ["| | gated | ungated | difference | by seed | error by clips |", "| --- | --- | --- | --- | --- | --- |"]
    for judge in gated[0]["accuracy"][TESTS[0]]:
        overall = []
        for split in (*VALIDATIONS, *TESTS):
            own, other = ([mean(found, split, judge) for found in runs] for runs in (gated, ungated))
            gap = [a - b for a, b in zip(own, other, strict=True)]
            overall.append(gap)
            each = ", ".join(f"{value:+.1f}" for value in gap)
            row = f"{cell(own)} | {cell(other)} | {cell(gap, '+.1f')} | {each} | {error(gated, ungated, (split,), judge):.1f}"
            lines.append(f"| {split.replace('_', ' ')}, {judge} | {row} |")
        gap = np.mean(overall[-2:], axis=0).tolist()
        lines.append(f"| both test splits, {judge} | | | {cell(gap, '+.1f')} | {', '.join(f'{value:+.1f}' for value in gap)} | {error(gated, ungated, TESTS, judge):.1f} |")
    return lines


def corpora_of(gated: list[dict], ungated: list[dict]) -> list[str]:
    """Each corpus of the test splits by the judge who hears most, and what is skipped."""
    judge = list(gated[0]["accuracy"][TESTS[0]])[-1]
    lines = [f"| {judge} | gated | ungated |", "| --- | --- | --- |"]
    for split in TESTS:
        for corpus in gated[0]["accuracy"][split][judge]:
            own, other = (cell([found["accuracy"][split][judge][corpus] for found in runs]) for runs in (gated, ungated))
            lines.append(f"| {corpus}, {split.removeprefix('test_')} | {own} | {other} |")
    for split in TESTS:
        for name in gated[0]["skipped"][split]:
            lines.append(f"| modules skipped, {name}, {split.removeprefix('test_')} | {cell([found['skipped'][split][name] for found in gated])} | |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="the features that the runs have learnt from, and others for the listeners")
    parser.add_argument("--test", type=Path, required=True, help="features of the test splits")
    parser.add_argument("--gated", nargs="+", type=Path, required=True)
    parser.add_argument("--ungated", nargs="+", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="an exported file whose picture is mixed in")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if len(arguments.gated) != len(arguments.ungated):
        sys.exit("as many gated runs as ungated ones, please: they are compared seed by seed")
    quicken(arguments.threads)
    try:
        table, test = load(arguments.data), load([arguments.test])
        picture = picture_of(arguments.picture) if arguments.picture else None
    except (DataError, Unknown) as error:
        sys.exit(str(error))
    given = {"data": table.digest, "test": test.digest, "picture": hashlib.sha256(arguments.picture.read_bytes()).hexdigest() if picture else ""}
    sides = []
    for ungated, runs in ((False, arguments.gated), (True, arguments.ungated)):
        side = []
        for run in runs:
            kept = run / "gap.json"
            content = checkpoint.load(run / "last.pt")
            own = content["settings"]
            if own["ungated"] != ungated:
                sys.exit(f"{run} was trained {'without' if own['ungated'] else 'with'} gates")
            known = {"step": content["step"], "settings": own, "given": given | {"run": hashlib.sha256((run / "last.pt").read_bytes()).hexdigest()}}
            found = json.loads(kept.read_text()) if kept.exists() else {}
            if any(found.get(name) != value for name, value in known.items()):
                found = judged(run, table, test, own["seed"], picture) | known
                kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            side.append(found | {"first": content.get("first", "")})
        sides.append(side)
    for own, other in zip(*sides, strict=True):
        mine, theirs = (completed(side["settings"]) for side in (own, other))
        unlike = [name for name, value in mine.items() if name not in OF_GATES and theirs[name] != value]
        if unlike or own["step"] != other["step"]:
            sys.exit(f"these two are not of one recipe and seed: {', '.join(unlike) or 'steps'} differ")
        if own["first"] != other["first"]:
            sys.exit("these two do not go on from the same weights: train the ungated one with --fresh --start GATED/shallow.pt, or both with --start of one last.pt")
    print("\n".join([*table_of(*sides), "", *corpora_of(*sides)]))


if __name__ == "__main__":
    main()
