"""Checkpoints: everything that training needs to go on as if it had never stopped.

The random numbers of a step depend on the seed and the step's number only, so no
generator state is stored.
"""

import os
from pathlib import Path

import torch

from model import GatedConformer, Shape

FORMAT = 2


def save(path: Path, content: dict) -> None:
    """Write beside and rename, so that a kill at any moment leaves a whole file."""
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load(path: Path) -> dict:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path}: checkpoint format {content.get('format')}, this code reads {FORMAT}")
    return content


def network(content: dict) -> GatedConformer:
    """The network of a checkpoint with its averaged weights, ready for inference."""
    model = GatedConformer(Shape(**content["shape"]))
    model.load_state_dict(content["average"])
    return model.eval()
