#!/usr/bin/env python3
"""Measure a checkpoint on a split of feature folders.

Every choice is made on `validation` (fixed speakers inside train, see data.py). The
test splits are for the final figures of a model that will not change any more.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

import checkpoint
from data import DataError, Table, load
from model import BACKGROUND, LABELS, MODULES, SPEECH_FRAMES, GatedConformer
from runtime import quicken

SPLITS = ("validation", "validation_seen", "test_seen", "test_unseen")


def predict(model: GatedConformer, table: Table, rows: np.ndarray, threshold: float | None, keep: list[list[bool]] | None = None, batch: int = 32) -> dict:
    """Logits [N, 7], speech [N, T], executed [N, M] and the true frames, as arrays.

    Without a threshold the gates are ignored, and the modules of `keep` (default: all) run.
    """
    if not len(rows):
        return nothing(model)
    model.eval()
    device = model.stem.mean.device
    parts = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(rows), batch):
            features, frames, _ = table.batch(rows[start : start + batch])
            inputs = torch.from_numpy(features).to(device)
            output = model.forward_ungated(inputs, keep) if threshold is None else model(inputs, threshold)
            parts.append((*(part.float().cpu().numpy() for part in (output.logits, output.speech, output.executed)), frames))
    names = ("logits", "speech", "executed", "frames")
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}


def nothing(model: GatedConformer) -> dict:
    """What is predicted of no rows."""
    sizes = {"logits": len(LABELS), "speech": SPEECH_FRAMES, "executed": model.shape.blocks * len(MODULES), "frames": SPEECH_FRAMES}
    return {name: np.zeros((0, size), np.float32) for name, size in sizes.items()}


def recall_mean(truth: np.ndarray, guess: np.ndarray) -> float:
    """Unweighted average recall over the labels that occur."""
    return float(np.mean([(guess[truth == label] == label).mean() for label in np.unique(truth)]))


def measure(
    model: GatedConformer, table: Table, rows: np.ndarray, threshold: float | None = 0.5, keep: list[list[bool]] | None = None
) -> dict:
    """The figures that are printed; shares from 0 to 1, and NaN of nothing. Only labelled rows count.

    Emotion accuracy is over rows of kind `utterance`, as `undertone evaluate` has it.
    """
    rows = rows[(table.label[rows] >= 0)]
    out = predict(model, table, rows, threshold, keep)
    truth, guess = table.label[rows], out["logits"].argmax(1)
    whole, noise = table.kind[rows] == "utterance", truth == BACKGROUND
    figures: dict = {"accuracy": {}, "uar": {}, "rows": len(rows)}
    for corpus in np.unique(table.corpus[rows[whole]]):
        own = whole & (table.corpus[rows] == corpus)
        figures["accuracy"][str(corpus)] = float((guess[own] == truth[own]).mean())
        figures["uar"][str(corpus)] = recall_mean(truth[own], guess[own])
    figures["mean_accuracy"] = float(np.mean(list(figures["accuracy"].values() or [np.nan])))
    detected = {"speech_as_speech": share(guess[~noise] != BACKGROUND), "background_as_background": share(guess[noise] == BACKGROUND)}
    figures |= detected | {"background_vs_speech": float(np.mean(list(detected.values())))}
    skipped = 1.0 - out["executed"].mean(1)
    figures["skipped"] = {name: share(skipped[truth == n]) for n, name in enumerate(LABELS)}
    figures["skipped_speech"] = share(skipped[~noise])
    figures["skipped_kind"] = {str(c): share(skipped[noise & (table.corpus[rows] == c)]) for c in np.unique(table.corpus[rows[noise]])}
    known = out["frames"] >= 0
    said, is_speech = out["speech"][known] > 0, out["frames"][known] == 1
    figures["frame_recall"] = {"speech": share(said[is_speech]), "background": share(~said[~is_speech])}
    figures["confusion"] = [[int(((truth == t) & (guess == g)).sum()) for g in range(len(LABELS))] for t in range(len(LABELS))]
    return figures


def share(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def lines(figures: dict) -> list[str]:
    """The figures as text."""
    text = [f"{figures['rows']} rows; mean emotion accuracy {100 * figures['mean_accuracy']:.1f} %"]
    for corpus, accuracy in figures["accuracy"].items():
        text.append(f"  {corpus:10s} accuracy {100 * accuracy:5.1f} %  UAR {100 * figures['uar'][corpus]:5.1f} %")
    text.append(
        f"background vs speech {100 * figures['background_vs_speech']:.2f} %"
        f" (speech kept {100 * figures['speech_as_speech']:.2f} %,"
        f" background kept {100 * figures['background_as_background']:.2f} %)"
    )
    frames = figures["frame_recall"]
    text.append(f"frames: speech found {100 * frames['speech']:.1f} %, background found {100 * frames['background']:.1f} %")
    skipped = ", ".join(f"{name} {100 * value:.1f}" for name, value in figures["skipped"].items())
    text.append(f"modules skipped, %: {skipped}")
    text.append("confusion (rows true, columns guessed): " + " ".join(name[:4] for name in LABELS))
    text += [f"  {name:10s} " + " ".join(f"{n:5d}" for n in row) for name, row in zip(LABELS, figures["confusion"], strict=True)]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--split", choices=SPLITS, default="validation")
    parser.add_argument("--threshold", type=float, default=0.5, help="gate threshold (default: %(default)s)")
    parser.add_argument("--ungated", action="store_true", help="run every module, whatever the gates say")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    quicken(arguments.threads)
    try:
        table = load(arguments.data)
    except DataError as error:
        sys.exit(str(error))
    rows = table.rows(arguments.split)
    if not (table.label[rows] >= 0).any():
        sys.exit(f"{', '.join(map(str, arguments.data))}: no labelled clip of {arguments.split}, so there is nothing to measure")
    model = checkpoint.network(checkpoint.load(arguments.checkpoint))
    threshold = None if arguments.ungated else arguments.threshold
    figures = measure(model, table, rows, threshold)
    print(json.dumps(figures) if arguments.json else "\n".join(lines(figures)))


if __name__ == "__main__":
    main()
