#!/usr/bin/env python3
"""Draw how a training run went and what its network does, as SVG for the model card.

    report.py RUN FEATURES... --out models/report [--final EVALUATE.json]

RUN is a folder of train.py and emotions.py (log.jsonl, final.pt); FEATURES are its feature folders, of which the validation
speakers are used; EVALUATE.json is what `undertone evaluate --json` told of the test splits. RUN is best that of the twin, which
does not know these speakers (`make train TRAIN=`): where a run has learnt from them, the figures say so.

| file | what it shows |
| --- | --- |
| training.svg | loss terms and accuracies, validation by validation |
| gates.svg | P(execute) and the share of modules skipped, validation by validation |
| heatmap.svg | how often each of the modules runs, for each class |
| threshold.svg | accuracy and skipped modules as the gate threshold moves |
| confusion-validation.svg, confusion-test_seen.svg, … | which label was taken for which |
"""

import argparse
import json
import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import checkpoint
from data import DataError, Table, load
from evaluate import recall_mean, share
from model import BACKGROUND, LABELS, MODULES, GatedConformer
from runtime import quicken

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
DEFAULT = 0.5
UNKNOWN, KNOWN = "validation speakers", "speakers it learnt from"
# Text stays text, and the same figures give the same file.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "undertone", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}


def save(figure, out: Path, name: str) -> None:
    figure.savefig(out / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def series(log: list[dict], *path: str) -> tuple[list[int], list[float]]:
    """Epochs and values of one entry of the log, where it is a number."""
    epochs, values = [], []
    for entry in log:
        value: object = entry
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            epochs.append(entry["epoch"])
            values.append(value)
    return epochs, values


def names(log: list[dict], part: str, prefix: str) -> list[str]:
    """Keys of a part of the log that begin so, in order."""
    return sorted({key for entry in log for key in entry.get(part, {}) if key.startswith(prefix)})


def gates_begin(log: list[dict]) -> int | None:
    """The epoch after which gates decide; a log need not hold every epoch."""
    if not any(entry.get("gated") for entry in log):
        return None
    return max((entry["epoch"] for entry in log if not entry.get("gated")), default=0)


def speakers_of(content: dict) -> str:
    """What the validation speakers are to the network of this checkpoint."""
    learnt_from = bool(content.get("before")) or any(content.get(part, {}).get("everything") for part in ("settings", "emotions"))
    return KNOWN if learnt_from else UNKNOWN


def draw_training(log: list[dict], speakers: str, out: Path) -> None:
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(9, 3.4))
    for key in names(log, "train", "loss_"):
        loss.plot(*series(log, "train", key), label=key.removeprefix("loss_"))
    loss.set(title="Loss terms, training", xlabel="epoch")
    corpora = sorted({corpus for entry in log for corpus in entry.get("validation", {}).get("accuracy", {})})
    for number, corpus in enumerate(corpora):
        epochs, values = series(log, "validation", "accuracy", corpus)
        accuracy.plot(epochs, 100 * np.array(values), color=f"C{number}", label=corpus)
        epochs, values = series(log, "train", f"accuracy_{corpus}")
        accuracy.plot(epochs, 100 * np.array(values), color=f"C{number}", linestyle=":", alpha=0.7)
    epochs, values = series(log, "validation", "mean_accuracy")
    accuracy.plot(epochs, 100 * np.array(values), color="black", linewidth=2, label="mean")
    accuracy.set(title=f"Accuracy, %: {speakers} (training dotted)", xlabel="epoch")
    finish(log, loss, accuracy)
    save(figure, out, "training.svg")


def draw_gates(log: list[dict], speakers: str, out: Path) -> None:
    figure, (probability, skipped) = plt.subplots(1, 2, figsize=(9, 3.4))
    for key in names(log, "train", "p_execute_"):
        probability.plot(*series(log, "train", key), label=key.removeprefix("p_execute_"))
    probability.set(title="Mean P(execute), training", xlabel="epoch", ylim=(-0.02, 1.02))
    labels = [label for label in LABELS if series(log, "validation", "skipped", label)[0]]
    for label in labels:
        epochs, values = series(log, "validation", "skipped", label)
        skipped.plot(epochs, 100 * np.array(values), label=label)
    skipped.set(title=f"Modules skipped, %: {speakers}", xlabel="epoch", ylim=(-2, 102))
    finish(log, probability, skipped)
    save(figure, out, "gates.svg")


def finish(log: list[dict], *axes) -> None:
    begin = gates_begin(log)
    for axis in axes:
        if begin is not None:
            axis.axvline(begin - 0.5, color="grey", linestyle="--", linewidth=1)
            axis.text(begin - 0.45, axis.get_ylim()[0], " gates", color="grey", va="bottom")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)


def answers(model: GatedConformer, table: Table, rows: np.ndarray, threshold: float, batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Labels told [N] and what ran [N, M]."""
    told, executed = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            output = model(torch.from_numpy(table.batch(rows[start : start + batch])[0]), threshold)
            told.append(output.logits.argmax(1).numpy())
            executed.append(output.executed.numpy())
    return np.concatenate(told), np.concatenate(executed)


def draw_heatmap(truth: np.ndarray, executed: np.ndarray, out: Path) -> None:
    present = [n for n in range(len(LABELS)) if (truth == n).any()]
    blocks = executed.shape[1] // len(MODULES)
    figure, axes = plt.subplots(1, len(present), figsize=(1.35 * len(present) + 1, 0.24 * blocks + 1.4), sharey=True, squeeze=False)
    for axis, label in zip(axes[0], present, strict=True):
        share = executed[truth == label].mean(0).reshape(blocks, len(MODULES))
        image = axis.imshow(share, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="nearest")
        axis.set_title(f"{LABELS[label]}\n{100 * share.mean():.0f} % run", fontsize=8)
        axis.set_xticks(range(len(MODULES)), ("ff1", "att", "conv", "ff2"), fontsize=6)
        axis.set_yticks(range(blocks), range(1, blocks + 1), fontsize=6)
        axis.grid(False)
    axes[0][0].set_ylabel("block")
    figure.colorbar(image, ax=list(axes[0]), label="share of clips in which it runs", fraction=0.02, pad=0.01)
    save(figure, out, "heatmap.svg")


def draw_threshold(curve: list[dict], speakers: str, out: Path) -> None:
    figure, (moving, trade) = plt.subplots(1, 2, figsize=(9, 3.4))
    at = [point["threshold"] for point in curve]
    for key, text in (("accuracy", "accuracy, mean of corpora"), ("skipped_speech", "skipped, speech"), ("skipped_background", "skipped, background")):
        moving.plot(at, [100 * point[key] for point in curve], marker=".", label=text)
    moving.axvline(DEFAULT, color="grey", linestyle="--", linewidth=1)
    moving.set(title=f"As the gate threshold moves, %: {speakers}", xlabel="gate_threshold")
    moving.legend(fontsize=7)
    trade.plot([100 * point["skipped_speech"] for point in curve], [100 * point["accuracy"] for point in curve], marker=".")
    for point in curve:
        if point["threshold"] in (0.05, 0.2, DEFAULT, 0.8, 0.95):
            trade.annotate(f"{point['threshold']:g}", (100 * point["skipped_speech"], 100 * point["accuracy"]), fontsize=7)
    trade.set(title="Accuracy against skipping on speech, %", xlabel="modules skipped on speech", ylabel="accuracy")
    save(figure, out, "threshold.svg")


def draw_confusion(counts: np.ndarray, title: str, out: Path, name: str) -> None:
    """Counts [true, told]; shares of each row in colour, counts in the cells."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axis = plt.subplots(figsize=(4.2, 3.8))
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, f"{int(count)}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(LABELS)), LABELS, rotation=45, ha="right", fontsize=7)
    axis.set_yticks(range(len(LABELS)), LABELS, fontsize=7)
    axis.set(xlabel="told", ylabel="true")
    axis.set_title(title, fontsize=9)
    axis.grid(False)
    save(figure, out, name)


def confusion(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    counts = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(counts, (truth, told), 1)
    return counts


def point(threshold: float, table: Table, rows: np.ndarray, told: np.ndarray, executed: np.ndarray) -> dict:
    """What the threshold's curve shows; accuracy over whole utterances, as evaluate.py has it."""
    truth, whole = table.label[rows], table.kind[rows] == "utterance"
    corpora = [whole & (table.corpus[rows] == corpus) & (truth != BACKGROUND) for corpus in np.unique(table.corpus[rows[whole]])]
    corpora = [own for own in corpora if own.any()]
    skipped, noise = 1.0 - executed.mean(1), truth == BACKGROUND
    return {
        "threshold": threshold,
        "accuracy": share(np.array([(told[own] == truth[own]).mean() for own in corpora])),
        "uar": share(np.array([recall_mean(truth[own], told[own]) for own in corpora])),
        "skipped_speech": share(skipped[~noise]),
        "skipped_background": share(skipped[noise]),
    }


def thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def draw_network(model: GatedConformer, table: Table, rows: np.ndarray, speakers: str, out: Path) -> list[dict]:
    """Everything that asks the network; returns the points of the threshold's curve."""
    truth, curve = table.label[rows], []
    for threshold in THRESHOLDS:
        told, executed = answers(model, table, rows, threshold)
        curve.append(point(threshold, table, rows, told, executed))
        if threshold == DEFAULT:
            draw_heatmap(truth, executed, out)
            draw_confusion(confusion(truth, told), f"{speakers}, {len(rows)} clips", out, "confusion-validation.svg")
    draw_threshold(curve, speakers, out)
    return curve


def draw_final(told: dict, out: Path) -> None:
    """Confusion matrices of `undertone evaluate --json`, corpora together, by split."""
    splits: dict[str, np.ndarray] = {}
    for corpus in told["confusion"].values():
        for split, counts in corpus.items():
            splits[split] = splits.get(split, 0) + np.array(counts)
    for split, counts in splits.items():
        draw_confusion(counts, f"{split}, {counts.sum()} clips, model {told['model']}", out, f"confusion-{split}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with log.jsonl and final.pt, or last.pt where emotions.py has not run")
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--out", type=Path, default=Path("models/report"), help="where the SVGs go (default: %(default)s)")
    parser.add_argument("--final", type=Path, help="what `undertone evaluate --json` told")
    parser.add_argument("--rows", type=int, default=1500, help="validation clips to ask the network about, at most (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    quicken(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        table = load(arguments.data)
    except DataError as error:
        sys.exit(str(error))
    final = arguments.run / "final.pt"
    content = checkpoint.load(final if final.exists() else arguments.run / "last.pt")
    speakers, rows = speakers_of(content), table.rows("validation")
    rows = thinned(rows[table.label[rows] >= 0], arguments.rows)
    if not rows.size:
        print("report: no clip of a validation speaker; what the network does with them is not drawn", file=sys.stderr)
    elif speakers == KNOWN:
        print(f"report: {arguments.run} has learnt from the validation speakers; its twin's folder (`make train TRAIN=`) tells of unknown ones", file=sys.stderr)
    with plt.rc_context(STYLE):
        log = [json.loads(line) for line in (arguments.run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        if log:
            draw_training(log, speakers, arguments.out)
            draw_gates(log, speakers, arguments.out)
        curve = draw_network(checkpoint.network(content), table, rows, speakers, arguments.out) if rows.size else []
        if arguments.final:
            draw_final(json.loads(arguments.final.read_text(encoding="utf-8")), arguments.out)
    if curve:
        print(f"| gate_threshold | accuracy, {speakers}, mean of corpora | skipped, speech | skipped, background |\n| --- | --- | --- | --- |")
    for p in curve:
        print(f"| {p['threshold']:g} | {100 * p['accuracy']:.1f} % | {100 * p['skipped_speech']:.1f} % | {100 * p['skipped_background']:.1f} % |")


if __name__ == "__main__":
    main()
