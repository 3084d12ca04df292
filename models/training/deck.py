"""Where the rows of a table lie while training draws from them: on the disk, or all at once in a GPU's memory."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data import Table
from pupil import Lesson


class Batch(NamedTuple):
    """B rows of a table."""

    features: Tensor  # float32 [B, 80, 360]
    frames: Tensor  # int8 [B, 90]
    labels: Tensor  # int64 [B]
    lesson: Lesson | None


class Deck:
    """A table's rows, a batch at a time. On a GPU a batch is a few gathers, without a word to the CPU."""

    def __init__(self, table: Table, device: torch.device, taught: bool):
        self.table, self.device, self.taught = table, device, taught
        if device.type == "cpu":
            return
        starts = np.concatenate([[0], np.cumsum([len(array) for array in table.frames])])
        self.place = torch.from_numpy(starts[table.folder] + table.row).to(device)
        self.labels = torch.from_numpy(table.label).to(device)
        self.features, self.frames = self.moved(table.features), self.moved(table.frames)
        self.lesson = tuple(self.moved([lesson[n] for lesson in table.lessons]) for n in range(4)) if taught else ()

    def moved(self, arrays: list[np.ndarray]) -> Tensor:
        return torch.cat([torch.from_numpy(np.array(array)).to(self.device) for array in arrays])

    def batch(self, rows: Tensor) -> Batch:
        """Rows int64 [B], on the deck's device."""
        if self.device.type != "cpu":
            place = self.place[rows]
            lesson = Lesson(*(array[place].float() if n != 1 else array[place] for n, array in enumerate(self.lesson))) if self.taught else None
            return Batch(self.features[place].float(), self.frames[place], self.labels[rows], lesson)
        features, frames, labels = (torch.from_numpy(array) for array in self.table.batch(rows.numpy()))
        lesson = Lesson(*(torch.from_numpy(array) for array in self.table.lesson(rows.numpy()))) if self.taught else None
        return Batch(features, frames, labels, lesson)
