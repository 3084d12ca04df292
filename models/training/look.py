#!/usr/bin/env python3
"""Teach the small convolutional network which emotion a picture of the features shows (picture.py).

    look.py FEATURES... --out RUN/picture.pt [--everything]

It learns from labels alone, of clips that are changed each time (augment.py) and mixed in pairs (Zhang et al. 2018). It needs
nothing of the large network and may learn beside it: three quarters of an hour on one core. Stop it whenever you like: it
goes on where it was, from RUN/picture.pt. emotions.py takes that file.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import checkpoint
from augment import Change, augment
from data import VALIDATIONS, DataError, Table, load
from model import BACKGROUND
from picture import Picture
from progress import Progress
from runtime import parsed, quicken

SETTINGS = {  # the value is (default, help)
    "channels": (16, "of the first convolution"),
    "clips": (640_000, "clips to learn from, those seen again counted again"),
    "batch": (64, "clips in a step"),
    "rate": (3e-3, "peak learning rate (one cycle: Smith and Topin 2017)"),
    "weight_decay": (0.05, "AdamW's"),
    "dropout": (0.3, "of what the classes are told from"),
    "smoothing": (0.1, "label smoothing"),
    "mix": (0.3, "both parameters of the beta distribution that pairs are mixed by"),
    "warp": (0.1, "of the frequency axis, at most"),
    "mask_bands": (8, "widest mask over bands"),
    "mask_windows": (40, "and over windows"),
    "balance": (0.5, "corpora of n clips get shares as n ** balance"),
    "seed": (0, "of everything random"),
}
SAVE_SECONDS = 180.0


class Looking:
    """A run: the network, its optimizer, and the step it is at."""

    def __init__(self, table: Table, settings: argparse.Namespace):
        self.table, self.settings = table, settings
        rows = table.rows("everything" if settings.everything else "train")
        self.rows = rows[(table.label[rows] >= 0) & (table.label[rows] < BACKGROUND)]
        corpora, own = np.unique(table.corpus[self.rows], return_inverse=True)
        self.weight = torch.from_numpy((np.bincount(own, minlength=len(corpora)) ** (settings.balance - 1.0))[own])
        torch.manual_seed(settings.seed)
        self.model = Picture(settings.channels, BACKGROUND).to(memory_format=torch.channels_last)
        sample = np.random.default_rng(settings.seed).choice(self.rows, min(2000, len(self.rows)), replace=False)
        features = torch.from_numpy(table.batch(sample)[0])
        self.model.mean.copy_(features.mean((0, 2))[:, None])
        self.model.scale.copy_(1.0 / features.std((0, 2)).clamp(min=1e-3)[:, None])
        parameters = list(self.model.parameters())
        decays = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay}]
        decays += [{"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(decays, lr=settings.rate)
        self.steps = max(10, settings.clips // settings.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, settings.rate, self.steps, pct_start=0.2)
        self.change = Change(warp=settings.warp, bands=settings.mask_bands, windows=settings.mask_windows)
        self.step = 0

    def state(self) -> dict:
        return {
            "picture": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "steps": self.steps,
            "settings": {name: getattr(self.settings, name) for name in ("everything", *SETTINGS)},
            "data_digest": self.table.digest,
        }

    def restore(self, content: dict) -> None:
        mine = self.state()
        for name in ("settings", "data_digest"):
            if content[name] != mine[name]:
                raise DataError(f"{self.settings.out} was made with other {name}:\n  {content[name]}\nnot\n  {mine[name]}\nMove it away to start again.")
        self.model.load_state_dict(content["picture"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.step = content["step"]

    def advance(self) -> Tensor:
        """One step of the optimizer; the random numbers depend on the seed and the step's number only."""
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        draw = np.random.default_rng((settings.seed, self.step))
        rows = self.rows[torch.multinomial(self.weight, settings.batch, replacement=True).numpy()]
        features = augment(torch.from_numpy(self.table.batch(rows)[0]), self.model.mean, self.change)
        wanted = F.one_hot(torch.from_numpy(self.table.label[rows]).long(), BACKGROUND).float()
        wanted = (1.0 - settings.smoothing) * wanted + settings.smoothing / BACKGROUND
        share, other = float(draw.beta(settings.mix, settings.mix)), torch.randperm(settings.batch)
        features, wanted = (share * each + (1.0 - share) * each[other] for each in (features, wanted))
        self.model.train()
        logits = self.model.classes(F.dropout(self.model.pooled(features), settings.dropout))
        loss = F.cross_entropy(logits, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return loss.detach()

    def accuracy(self, split: str) -> dict[str, float]:
        """Percent right by corpus, of the split's labelled clips."""
        table, rows = self.table, self.table.rows(split)
        rows = rows[(table.label[rows] >= 0) & (table.label[rows] < BACKGROUND)]
        self.model.eval()
        with torch.inference_mode():
            parts = [self.model(torch.from_numpy(table.batch(rows[n : n + 128])[0])).argmax(1) for n in range(0, len(rows), 128)]
        right = torch.cat(parts).numpy() == table.label[rows] if parts else np.zeros(0, bool)
        return {str(name): 100 * float(right[table.corpus[rows] == name].mean()) for name in np.unique(table.corpus[rows])}


def look(run: Looking, until: int | None = None) -> None:
    """Run to the end, or to step `until`; the file of the run always holds a recent state."""
    out, saved = run.settings.out, time.monotonic()
    progress = Progress(run.steps, run.settings.batch, out.with_suffix(".jsonl"))
    while run.step < (until or run.steps):
        progress.advance(run.step + 1, "looking", run.advance())
        if time.monotonic() - saved > SAVE_SECONDS:
            checkpoint.save(out, run.state())
            saved = time.monotonic()
    checkpoint.save(out, run.state())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, and to go on from")
    return parsed(parser, SETTINGS)


def main() -> None:
    settings = parse()
    quicken(settings.threads)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        run = Looking(load(settings.data), settings)
        if settings.out.exists():
            run.restore(checkpoint.load(settings.out))
    except DataError as error:
        sys.exit(str(error))
    print(f"{len(run.rows)} clips, step {run.step} of {run.steps}", flush=True)
    look(run)
    for split in VALIDATIONS:
        print(f"{split:16s} " + "  ".join(f"{name} {value:.1f}" for name, value in run.accuracy(split).items()))


if __name__ == "__main__":
    main()
