"""The small convolutional network learns, goes on where it was stopped, and refuses what belongs to another run."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoint
from cost import picture as cost
from data import DataError, load
from look import SETTINGS, Looking, look
from model import BACKGROUND
from picture import Picture
from test_train import folder  # noqa: F401  (a fixture)


def settings(out: Path, **changes) -> argparse.Namespace:
    values = {name: default for name, (default, _) in SETTINGS.items()}
    return argparse.Namespace(**values | {"everything": False, "out": out, "channels": 4, "batch": 16, "clips": 16 * 20} | changes)


def test_it_learns_what_its_clips_are(folder: Path):  # noqa: F811
    run = Looking(load([folder]), settings(folder / "picture.pt", clips=16 * 150, mix=0.01, dropout=0.0, warp=0.0, mask_bands=0, mask_windows=0))
    look(run)
    run.model.eval()
    with torch.inference_mode():
        told = run.model(torch.from_numpy(run.table.batch(run.rows)[0])).argmax(1).numpy()
    assert (told == run.table.label[run.rows]).mean() > 0.9
    assert set(run.accuracy("validation")) <= set(run.table.corpus)


def test_a_run_that_is_stopped_ends_as_one_that_is_not(folder: Path):  # noqa: F811
    table = load([folder])
    through, stopped = Looking(table, settings(folder / "a.pt")), Looking(table, settings(folder / "b.pt"))
    look(through)
    look(stopped, 7)
    again = Looking(table, settings(folder / "b.pt"))
    again.restore(checkpoint.load(folder / "b.pt"))
    assert again.step == 7
    look(again)
    one, other = through.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(DataError, match="other settings"):
        Looking(table, settings(folder / "b.pt", warp=0.2)).restore(checkpoint.load(folder / "b.pt"))


def test_its_cost_is_what_pytorch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    model = Picture(4, BACKGROUND).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.from_numpy(np.zeros((1, 80, 360), np.float32)))
    # The pooling over 23 columns is no product to PyTorch.
    assert 0 <= cost(4) - counter.get_total_flops() // 2 <= 2 * 23 * 48
