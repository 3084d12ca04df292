#!/usr/bin/env python3
"""Teach a trained network which emotion it hears, from all its depths (model.Emotions); nothing else of it changes.

    emotions.py RUN/last.pt FEATURES... --out RUN/final.pt [--everything]

The network listens to every labelled clip of the training rows once (four minutes on one core); what it hears
at each depth, as mean and spread over the voice, is then all that the head learns from (half a minute).
RUN/final.pt is what export.py, evaluate.py and golden_parity.py take.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import checkpoint
from data import VALIDATIONS, DataError, Table, load
from evaluate import measure
from model import BACKGROUND, Emotions, GatedConformer, Shape, heard
from objective import learning_rate
from progress import Progress
from runtime import quicken

SETTINGS = {  # the value is (default, help)
    "hidden": (64, "hidden units of the head"),
    "epochs": (10, "how often each clip is seen"),
    "batch": (256, "clips in a step"),
    "rate": (1e-3, "peak learning rate"),
    "weight_decay": (0.01, "AdamW's"),
    "dropout": (0.5, "of what was heard"),
    "head_dropout": (0.5, "of the hidden units"),
    "smoothing": (0.1, "label smoothing"),
    "balance": (0.5, "corpora of n clips get shares as n ** balance"),
    "threshold": (0.5, "of the gates, while the network listens"),
    "seed": (1, "of everything random"),
}


def listen(model: GatedConformer, table: Table, rows: np.ndarray, threshold: float, log: Path, batch: int = 64) -> Tensor:
    """What the network hears in each row, [N, 2 d depths]; 16 bits are enough of it."""
    progress = Progress(-(-len(rows) // batch), batch, log)
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            output = model(torch.from_numpy(table.batch(rows[start : start + batch])[0]), threshold)
            found.append(heard(output.depths, output.speech).half())
            progress.advance(len(found), "listening")
    return torch.cat(found)


def learn(head: Emotions, clips: Tensor, labels: Tensor, weight: Tensor, settings: argparse.Namespace, log: Path) -> None:
    """Clips [N, 2 d depths] of emotions [N], drawn in proportion to `weight` [N]."""
    head.mean.copy_(clips.float().mean(0))
    head.scale.copy_(1.0 / (clips.float().std(0) + 1e-3))
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * len(clips) // settings.batch
    progress = Progress(steps, settings.batch, log)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, settings.rate, warm_up=0.3)
        rows = torch.multinomial(weight, settings.batch, replacement=True)
        x = F.dropout((clips[rows].float() - head.mean) * head.scale, settings.dropout)
        hidden = F.dropout(F.silu(head.hidden(x)), settings.head_dropout)
        loss = F.cross_entropy(head.classes(hidden), labels[rows], label_smoothing=settings.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.advance(step + 1, "learning", loss.detach())


def taught(content: dict, table: Table, settings: argparse.Namespace, log: Path) -> dict:
    """The checkpoint `content` with a head that has learnt from the table's training rows."""
    model = checkpoint.network(content)
    torch.manual_seed(settings.seed)
    rows = table.rows("everything" if settings.everything else "train")
    rows = rows[(table.label[rows] >= 0) & (table.label[rows] < BACKGROUND)]
    corpora, own = np.unique(table.corpus[rows], return_inverse=True)
    weight = (np.bincount(own, minlength=len(corpora)) ** (settings.balance - 1.0))[own]
    shape = model.shape.to_dict() | {"emotions": settings.hidden}
    head = Emotions(Shape(**shape))
    clips = listen(model, table, rows, settings.threshold, log)
    learn(head, clips, torch.from_numpy(table.label[rows]), torch.from_numpy(weight).float(), settings, log)
    more = {f"emotions.{name}": value for name, value in head.state_dict().items()}
    chosen = {name: getattr(settings, name) for name in ("everything", *SETTINGS)}
    return content | {"shape": shape, "average": {**content["average"], **more}, "emotions": chosen}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--everything", action="store_true", help="learn from the validation speakers and utterances too: their figures then mean nothing")
    parser.add_argument("--threads", type=int, default=1)
    for name, (default, text) in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    settings = parse()
    quicken(settings.threads)
    try:
        table = load(settings.data)
    except DataError as error:
        sys.exit(str(error))
    content = checkpoint.load(settings.checkpoint)
    if content["shape"].get("emotions"):
        sys.exit(f"{settings.checkpoint} has such a head already; give the checkpoint of train.py (RUN/last.pt)")
    content = taught(content, table, settings, settings.out.with_suffix(".jsonl"))
    checkpoint.save(settings.out, content)
    model = checkpoint.network(content)
    figures = {split: measure(model, table, table.rows(split)) for split in VALIDATIONS}
    for split, found in figures.items():
        accuracy = "  ".join(f"{name} {100 * value:.1f}" for name, value in found["accuracy"].items())
        print(f"{split:16s} {accuracy}  mean {100 * found['mean_accuracy']:.1f}")
    settings.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
