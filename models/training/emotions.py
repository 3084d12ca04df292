#!/usr/bin/env python3
"""Teach a trained network which emotion it hears, from all its depths and from the sound (model.Emotions); nothing else of it changes.

    emotions.py RUN/last.pt FEATURES... --picture RUN/picture.pt --out RUN/final.pt [--everything]

The network listens to every labelled clip of the training rows once (four minutes on one core); what it hears
at each depth, as mean and spread over the voice, and the functionals of the sound are then all that the two listeners
of the head learn from (a minute). The third, which sees the features as a picture, comes from look.py as it is.
RUN/final.pt is what export.py, evaluate.py and golden_parity.py take.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import checkpoint
from data import VALIDATIONS, DataError, Table, digest_of, load, together
from evaluate import measure
from functionals import SIZE, functionals
from model import BACKGROUND, DEPTH, Emotions, GatedConformer, Listener, Shape, heard, voiced
from objective import learning_rate
from progress import Progress
from runtime import parsed, quicken

SETTINGS = {  # the value is (default, help)
    "hidden": (64, "hidden units of the listener to the network"),
    "sound": (192, "hidden units of the listener to the sound"),
    "epochs": (10, "how often the first sees each clip"),
    "sound_epochs": (40, "how often the second does"),
    "batch": (256, "clips in a step"),
    "rate": (1e-3, "peak learning rate of the first"),
    "sound_rate": (2e-3, "of the second"),
    "weight_decay": (0.01, "AdamW's"),
    "dropout": (0.5, "of what is heard"),
    "head_dropout": (0.5, "of the first one's hidden units"),
    "sound_dropout": (0.3, "of the second one's, and of the functionals"),
    "smoothing": (0.1, "label smoothing"),
    "balance": (0.5, "corpora of n clips get shares as n ** balance"),
    "threshold": (0.5, "of the gates, while the network listens"),
    "seed": (1, "of everything random"),
}


@dataclass(frozen=True)
class Course:
    """How one listener learns."""

    name: str
    epochs: int
    rate: float
    dropout: float  # of what it hears
    head_dropout: float  # of its hidden units


def courses(settings: argparse.Namespace) -> tuple[Course, Course]:
    own = Course("the network", settings.epochs, settings.rate, settings.dropout, settings.head_dropout)
    return own, Course("the sound", settings.sound_epochs, settings.sound_rate, settings.sound_dropout, settings.sound_dropout)


def defaults() -> argparse.Namespace:
    """The settings as they are without a command line."""
    return argparse.Namespace(**{name: value for name, (value, _) in SETTINGS.items()})


def listeners(shape: Shape, settings: argparse.Namespace) -> tuple[Listener, Listener]:
    """To the network and to the sound, before they have learnt."""
    return Listener(2 * shape.width * (1 + shape.blocks // DEPTH), settings.hidden), Listener(SIZE, settings.sound)


def shares(corpus: np.ndarray, balance: float) -> Tensor:
    """The weight of each clip, by which a corpus of n clips is drawn as n ** balance."""
    names, own = np.unique(corpus, return_inverse=True)
    return torch.from_numpy((np.bincount(own, minlength=len(names)) ** (balance - 1.0))[own]).float()


def listen(model: GatedConformer, table: Table, rows: np.ndarray, threshold: float, log: Path, batch: int = 64) -> tuple[Tensor, Tensor]:
    """What the network hears in each row, [N, 2 d depths], and the functionals of the sound, [N, SIZE]; 16 bits are enough."""
    progress = Progress(-(-len(rows) // batch), batch, log)
    found: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            features = torch.from_numpy(table.batch(rows[start : start + batch])[0])
            output = model(features, threshold)
            weight = voiced(output.speech, model.shape.frames)
            found.append((heard(output.depths, weight).half(), functionals(features, weight).clamp(-60000, 60000).half()))
            progress.advance(len(found), "listening")
    network, sound = zip(*found, strict=True)
    return torch.cat(network), torch.cat(sound)


def learn(body: Listener, clips: Tensor, labels: Tensor, weight: Tensor, course: Course, settings: argparse.Namespace, log: Path) -> None:
    """Clips [N, n] of emotions [N], drawn in proportion to `weight` [N]."""
    body.mean.copy_(clips.float().mean(0))
    body.scale.copy_(1.0 / (clips.float().std(0) + 1e-3))
    optimizer = torch.optim.AdamW(body.parameters(), lr=course.rate, weight_decay=settings.weight_decay)
    steps = course.epochs * len(clips) // settings.batch
    progress = Progress(steps, settings.batch, log)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, course.rate, warm_up=0.3)
        rows = torch.multinomial(weight, settings.batch, replacement=True)
        x = F.dropout(body.even(clips[rows].float()), course.dropout)
        hidden = F.dropout(F.silu(body.hidden(x)), course.head_dropout)
        loss = F.cross_entropy(body.classes(hidden), labels[rows], label_smoothing=settings.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.advance(step + 1, f"learning, {course.name}", loss.detach())


def taught(content: dict, picture: dict, table: Table, settings: argparse.Namespace, log: Path) -> dict:
    """The checkpoint `content` with a head that has learnt from the table's training rows; `picture` is look.py's."""
    model = checkpoint.network(content)
    torch.manual_seed(settings.seed)
    rows = table.rows("everything" if settings.everything else "train")
    learnt_from = table.corpora(rows)
    rows = rows[(table.label[rows] >= 0) & (table.label[rows] < BACKGROUND)]
    shape = model.shape.to_dict() | {"emotions": settings.hidden, "sound": settings.sound, "picture": picture["settings"]["channels"]}
    head = Emotions(Shape(**shape))
    head.picture.load_state_dict(picture["picture"])
    labels, weights = torch.from_numpy(table.label[rows]), shares(table.corpus[rows], settings.balance)
    clips = listen(model, table, rows, settings.threshold, log)
    for body, own, course in zip((head.network, head.sound), clips, courses(settings), strict=True):
        learn(body, own, labels, weights, course, settings, log)
    more = {f"emotions.{name}": value for name, value in head.state_dict().items()}
    chosen = {name: getattr(settings, name) for name in ("everything", *SETTINGS)}
    return content | {"shape": shape, "average": {**content["average"], **more}, "emotions": chosen, "corpora": together(content.get("corpora", {}), learnt_from)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--picture", type=Path, required=True, help="what look.py made of the same rows")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    return parsed(parser, SETTINGS)


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
    picture = checkpoint.load(settings.picture)
    # Network and picture may have learnt from the first of the folders alone, or from all.
    known = {digest_of(settings.data[:1]), digest_of(settings.data)}
    if content["data_digest"] not in known:
        sys.exit(f"{settings.checkpoint} has learnt from other rows; give the folders that train.py had")
    if picture["settings"]["everything"] != settings.everything or picture["data_digest"] not in known:
        sys.exit(f"{settings.picture} has learnt from other rows; run look.py on the same features, {'with' if settings.everything else 'without'} --everything")
    if picture["step"] < picture["steps"]:
        sys.exit(f"{settings.picture} is at step {picture['step']} of {picture['steps']}; run look.py again: it goes on from there")
    content = taught(content, picture, table, settings, settings.out.with_suffix(".jsonl"))
    checkpoint.save(settings.out, content)
    model = checkpoint.network(content)
    held = {split: table.rows(split) for split in VALIDATIONS}
    figures = {split: measure(model, table, rows) for split, rows in held.items() if rows.size}
    for split, found in figures.items():
        accuracy = "  ".join(f"{name} {100 * value:.1f}" for name, value in found["accuracy"].items())
        print(f"{split:16s} {accuracy}  mean {100 * found['mean_accuracy']:.1f}")
    settings.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
