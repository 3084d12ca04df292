#!/usr/bin/env python3
"""What a trained network misses when blocks of it are left out, on voices that it has learnt from.

    missed.py RUN FEATURES...

A line for each choice of blocks that run: how far what the blocks make of voices, and the class that is told, are from those of the
whole network (`imitation_loss` of pupil.py: 0 is the same, 1 about as far as channels spread), and how many clips are told the same class.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import checkpoint
from data import DataError, Table, load
from gap import emotional
from model import MODULES, GatedConformer
from pupil import imitation_loss
from runtime import quicken


def choices(blocks: int) -> dict[str, list[bool]]:
    """Which blocks run, by what is said of it."""
    of = lambda wanted: [wanted(index) for index in range(blocks)]
    found = {
        "every second, from the first on": of(lambda index: index % 2 == 0),
        "every second, from the second on": of(lambda index: index % 2 == 1),
        "the first half": of(lambda index: index < blocks // 2),
    }
    return found | {f"all but number {left + 1}": of(lambda index, left=left: index != left) for left in range(blocks)}


@torch.inference_mode()
def missed(model: GatedConformer, table: Table, rows: np.ndarray, runs: list[bool]) -> tuple[float, float]:
    """The error, and the share of clips that are told the same class."""
    features, frames, _ = (torch.from_numpy(part) for part in table.batch(rows))
    whole, less = model.forward_ungated(features), model.forward_ungated(features, [[own] * len(MODULES) for own in runs])
    return float(imitation_loss(less, whole, frames)), float((less.logits.argmax(1) == whole.logits.argmax(1)).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", nargs="+", type=Path, help="features that it has learnt from")
    parser.add_argument("--clips", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of clips (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    quicken(arguments.threads)
    try:
        table = load(arguments.data)
    except DataError as error:
        sys.exit(str(error))
    rows = emotional(table, "train")
    rows = np.random.default_rng(arguments.seed).choice(rows, min(arguments.clips, len(rows)), replace=False)
    model = checkpoint.network(checkpoint.load(arguments.run / "last.pt"))
    print("| blocks that run | error | same class, % |\n| --- | --- | --- |")
    for name, runs in choices(model.shape.blocks).items():
        error, same = missed(model, table, rows, runs)
        print(f"| {name} | {error:.4f} | {100 * same:.1f} |", flush=True)


if __name__ == "__main__":
    main()
