#!/usr/bin/env python3
"""Train the gated Conformer on feature folders made by `undertone corpus features`.

    train.py FEATURES... --out RUN        start, or go on where RUN was stopped
    train.py FEATURES... --out RUN --fresh   start again from nothing
    train.py FEATURES... --out RUN --start OTHER/shallow.pt   only the deep part, after another run's first

RUN then holds last.pt (the checkpoint: for export.py, evaluate.py and for going on) and
log.jsonl (one line an epoch). Stop it whenever you like, also with kill -9: at most the
last few minutes are lost, and the outcome is the same as without the stop.

Training has two parts, each with a learning-rate cycle of its own:

1. Every second block, without gates. The blocks between stand by: their modules start as the
   identity, so bringing them in later changes nothing at that moment. (Growing a network in
   depth from a trained shallow one: Gong et al. 2019.)
2. All blocks, with sampled gates (Gumbel-softmax, straight-through) and a price on
   P(execute): see objective.py. `--ungated` leaves the gates out: that is the baseline.

What is validated and exported is a running average of the weights (Polyak).
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import checkpoint
from augment import augment
from average import Average
from data import DataError, Mix, Sampler, Table, load
from evaluate import measure
from model import BACKGROUND, MODULES, GatedConformer, Shape
from objective import Objective, learning_rate
from pupil import Lesson, Pupil, opinion_loss
from progress import Progress
from runtime import quicken

SAVE_SECONDS = 180.0
GATE_SPEED = 3.0  # the gates have half of the steps only


class Trainer:
    """A run: the network, its optimizer, and the step it is at."""

    def __init__(self, table: Table, shape: Shape, settings: argparse.Namespace):
        self.table, self.settings = table, settings
        self.taught = bool(table.lessons) and settings.teacher > 0
        self.train_rows, self.validation_rows = table.rows("train"), one_of_each(table, table.rows("validation"))
        mix = Mix(settings.windows, settings.background, settings.balance)
        self.sampler = Sampler(table, self.train_rows, mix)
        self.epoch_steps = self.sampler.clips() // settings.batch
        if self.epoch_steps < 1:
            raise DataError(f"an epoch has {self.sampler.clips()} clips, fewer than one batch of {settings.batch}")
        self.steps = (settings.shallow_epochs + settings.deep_epochs) * self.epoch_steps
        self.objective = Objective(settings.smoothing, 1.0, settings.budget, settings.gate_cost, settings.background_gate_cost)
        torch.manual_seed(settings.seed)
        self.model = GatedConformer(shape)
        standardize(self.model, table, self.train_rows, settings.seed)
        self.average = Average(self.model, settings.average)
        self.pupil = Pupil(shape, *(table.lessons[0][n].shape[-1] for n in (0, 2))) if self.taught else None
        self.optimizer = torch.optim.AdamW(groups(self.model, self.pupil, settings.weight_decay), lr=settings.rate)
        self.step = 0
        self.sums: dict[str, list[float]] = {}  # of this epoch: name -> [sum, count]

    @property
    def shallow_steps(self) -> int:
        return self.settings.shallow_epochs * self.epoch_steps

    @property
    def deep(self) -> bool:
        return self.step >= self.shallow_steps

    def rate(self) -> float:
        if self.deep:
            return learning_rate(self.step - self.shallow_steps, self.steps - self.shallow_steps, self.settings.deep_rate)
        return learning_rate(self.step, self.shallow_steps, self.settings.rate)

    def standing(self, deep: bool) -> list[list[bool]]:
        """Which modules take part, by block: before the deep part, those of every second block."""
        return [[deep or index % 2 == 0] * len(MODULES) for index in range(self.model.shape.blocks)]

    def state(self) -> dict:
        return {
            "shape": self.model.shape.to_dict(),
            "model": self.model.state_dict(),
            "average": self.average.state,
            "pupil": self.pupil.state_dict() if self.pupil else {},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "sums": self.sums,
            "settings": {name: value for name, value in vars(self.settings).items() if name in SETTINGS},
            "features": self.table.configuration,
            "data_digest": self.table.digest,
        }

    def restore(self, content: dict, after: tuple[str, ...] = ()) -> None:
        """Go on from a checkpoint; the settings named in `after` may differ from those it was made with."""
        mine = self.state()

        def bound(state: dict, name: str) -> object:
            return state[name] if name != "settings" else {n: v for n, v in state[name].items() if n not in after}

        for name in ("settings", "features", "data_digest", "shape"):
            if bound(content, name) != bound(mine, name):
                raise DataError(f"the checkpoint was made with other {name}:\n  {content[name]}\nnot\n  {mine[name]}\nGive --fresh to start again.")
        self.model.load_state_dict(content["model"])
        self.average.state = content["average"]
        if self.pupil:
            self.pupil.load_state_dict(content["pupil"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.sums = content["step"], content["sums"]
        self.average.updates = self.step

    def plan(self, epoch: int) -> np.ndarray:
        """The rows of each step of an epoch, [steps, batch]; the same whenever it is asked for."""
        rng = np.random.default_rng([self.settings.seed, epoch])
        rows = self.sampler.epoch(rng)[: self.epoch_steps * self.settings.batch]
        return rows.reshape(self.epoch_steps, self.settings.batch)

    def advance(self, rows: np.ndarray) -> float:
        """One step of the optimizer on these rows; returns the loss."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        features, frames, labels = (torch.from_numpy(array) for array in self.table.batch(rows))
        features = augment(features, self.model.stem.mean)
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["speed"]
        gated = self.deep and not self.settings.ungated
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bf16):
            output = self.model.forward_sampled(features) if gated else self.model.forward_ungated(features, self.kept())
        losses = self.objective.losses(output, labels, frames, gated)
        if self.pupil:
            lesson = Lesson(*(torch.from_numpy(array) for array in self.table.lesson(rows)))
            lessons = self.pupil.losses(output, lesson)
            opinion = opinion_loss(output.logits, lesson.opinion)
            losses |= lessons | {"teacher_class": opinion}
            losses["total"] = losses["total"] + self.settings.teacher * sum(lessons.values()) + self.settings.opinion * opinion
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.average.update(self.model)
        self.step += 1
        self.count(rows, labels.numpy(), output, losses)
        return losses["total"].item()

    def kept(self) -> list[list[bool]]:
        """Stochastic depth for the whole batch, rarer in the first blocks (Huang et al. 2016)."""
        blocks = self.model.shape.blocks
        modules = blocks * len(MODULES)
        chance = self.settings.drop_modules * (torch.arange(modules) + 1) / modules
        drawn = (torch.rand(modules) >= chance).view(blocks, -1)
        return (drawn & torch.tensor(self.standing(self.deep))).tolist()

    def count(self, rows: np.ndarray, labels: np.ndarray, output, losses: dict) -> None:
        """Add a batch to the sums that the epoch's line is made of."""
        for name, value in losses.items():
            self.add(f"loss_{name}", value.item(), 1)
        guess, probability = output.logits.argmax(1).numpy(), output.p_execute.detach().mean(1).numpy()
        noise = labels == BACKGROUND
        for name, own in (("background", noise), ("speech", ~noise)):
            self.add(f"p_execute_{name}", float(probability[own].sum()), int(own.sum()))
        corpora = np.where(self.table.kind[rows] == "utterance", self.table.corpus[rows], "")
        for corpus in set(corpora) - {""}:
            own = corpora == corpus
            self.add(f"accuracy_{corpus}", float((guess[own] == labels[own]).sum()), int(own.sum()))

    def add(self, name: str, value: float, count: int) -> None:
        total = self.sums.setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += count

    def finish_epoch(self) -> dict:
        """Validation, and the epoch's figures."""
        means = {name: total / count if count else float("nan") for name, (total, count) in sorted(self.sums.items())}
        self.sums = {}
        deep = self.step > self.shallow_steps
        gated = deep and not self.settings.ungated
        keep = None if gated else self.standing(deep)
        network = self.average.network(self.model.shape)
        validation = measure(network, self.table, self.validation_rows, 0.5 if gated else None, keep)
        return {"epoch": self.step // self.epoch_steps, "gated": gated, "train": means, "validation": validation}


def one_of_each(table: Table, rows: np.ndarray) -> np.ndarray:
    """The first row of each utterance and kind, and all background: enough to follow training."""
    keys = [f"{table.utterance[r]} {table.kind[r]} {r if table.kind[r] == 'background' else ''}" for r in rows]
    return rows[np.sort(np.unique(keys, return_index=True)[1])] if keys else rows


def standardize(model: GatedConformer, table: Table, rows: np.ndarray, seed: int, sample: int = 2000) -> None:
    """Give the stem the mean and spread of each feature row over a sample of the training rows."""
    chosen = np.random.default_rng(seed).choice(rows, min(sample, len(rows)), replace=False)
    features = torch.from_numpy(table.batch(chosen)[0])
    model.stem.mean.copy_(features.mean((0, 2))[:, None])
    model.stem.scale.copy_(1.0 / features.std((0, 2)).clamp(min=1e-3)[:, None])


def groups(model: GatedConformer, pupil: Pupil | None, weight_decay: float) -> list[dict]:
    """Matrices decay, biases and norms do not; gates neither, and they learn faster."""
    gates = {id(p) for p in model.gate_parameters()}
    others = [p for p in model.parameters() if id(p) not in gates] + (list(pupil.parameters()) if pupil else [])
    return [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay, "speed": 1.0},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0, "speed": 1.0},
        {"params": model.gate_parameters(), "weight_decay": 0.0, "speed": GATE_SPEED},
    ]


def summary(entry: dict) -> str:
    train, validation = entry["train"], entry["validation"]
    losses = "  ".join(f"{n[5:]} {v:.3f}" for n, v in train.items() if n.startswith("loss_"))
    seen = "  ".join(f"{n[9:]} {100 * v:.1f}" for n, v in train.items() if n.startswith("accuracy_"))
    unseen = "  ".join(f"{n} {100 * v:.1f}" for n, v in validation["accuracy"].items())
    return (
        f"epoch {entry['epoch']}{' gated' if entry['gated'] else ''}  {entry['clips_per_second']:.1f} clips/s  {entry['left']} left\n"
        f"  loss        {losses}\n"
        f"  P(execute)  speech {train['p_execute_speech']:.3f}  background {train['p_execute_background']:.3f}\n"
        f"  train       {seen}\n"
        f"  validation  {unseen}  mean {100 * validation['mean_accuracy']:.1f}"
        f"  background vs speech {100 * validation['background_vs_speech']:.2f}\n"
        f"  skipped     speech {100 * validation['skipped_speech']:.1f} %  background {100 * validation['skipped']['background']:.1f} %"
        f"  frames: speech {100 * validation['frame_recall']['speech']:.1f} %  background {100 * validation['frame_recall']['background']:.1f} %"
    )


def train(trainer: Trainer, out: Path, until: int | None = None) -> None:
    """Run to the end, or to step `until`; `out`/last.pt always holds a recent state."""
    settings, saved = trainer.settings, time.monotonic()
    progress = Progress(trainer.steps, settings.batch, out / "log.jsonl")
    while trainer.step < (until or trainer.steps):
        epoch, place = divmod(trainer.step, trainer.epoch_steps)
        for rows in trainer.plan(epoch)[place:]:
            loss = trainer.advance(rows)
            progress.advance(trainer.step, f"epoch {epoch + 1}/{trainer.steps // trainer.epoch_steps}", loss)
            if time.monotonic() - saved > SAVE_SECONDS or trainer.step == until:
                checkpoint.save(out / "last.pt", trainer.state())
                saved = time.monotonic()
            if trainer.step == until:
                return
        entry = trainer.finish_epoch()
        if trainer.step == trainer.shallow_steps:
            checkpoint.save(out / "shallow.pt", trainer.state())
        entry |= {"clips_per_second": progress.rate(), "left": progress.left(trainer.step)}
        checkpoint.save(out / "last.pt", trainer.state())
        progress.record(entry)
        progress.tell(summary(entry))


SETTINGS = {  # what a run cannot change when it goes on; the value is (default, help)
    "shallow_epochs": (56, "how often about every utterance is seen by every second block"),
    "deep_epochs": (22, "how often by all blocks, gated"),
    "ungated": (False, "no gates in the deep part: the baseline"),
    "batch": (32, "clips in a step"),
    "rate": (1e-3, "peak learning rate of the shallow part"),
    "deep_rate": (4e-4, "peak learning rate of the deep part"),
    "weight_decay": (0.05, "AdamW's, on matrices only"),
    "average": (0.998, "decay of the running average of the weights"),
    "clip": (1.0, "norm to which gradients are cut"),
    "smoothing": (0.1, "label smoothing"),
    "budget": (Objective.budget, "share of modules that speech may run for nothing"),
    "gate_cost": (Objective.gate_cost, "price of what speech runs above its budget"),
    "background_gate_cost": (Objective.background_gate_cost, "price of P(execute) on background"),
    "drop_modules": (0.1, "chance that the last module is left out while there are no gates"),
    "dropout": (0.05, "dropout at the end of each module"),
    "head_dropout": (0.1, "dropout in the class head"),
    "teacher": (2.0, "weight of the teacher's lessons, where teacher.py has written them; 0: none"),
    "opinion": (1.0, "weight of the teacher's opinion of the emotion, likewise"),
    "windows": (Mix.windows, "share of utterances that come again as a window"),
    "background": (Mix.background, "share of background clips"),
    "balance": (Mix.balance, "corpora of n utterances get shares as n ** balance"),
    "seed": (1, "of everything random"),
}


# What the first part does not depend on.
DEEP = ("deep_epochs", "ungated", "deep_rate", "budget", "gate_cost", "background_gate_cost")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; goes on if it has a checkpoint")
    parser.add_argument("--fresh", action="store_true", help="start again even if there is a checkpoint")
    parser.add_argument("--start", type=Path, help="shallow.pt of another run: train the deep part only")
    parser.add_argument("--threads", type=int, default=1, help="threads; more only on cores that are otherwise idle (default: %(default)s)")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", help="32-bit arithmetic, for processors without bfloat16")
    for name, (default, text) in SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            parser.add_argument(flag, type=type(default), default=default, help=f"{text} (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    settings = parse()
    quicken(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    last = settings.out / "last.pt"
    try:
        table = load(settings.data)
        trainer = Trainer(table, Shape(dropout=settings.dropout, head_dropout=settings.head_dropout), settings)
        if last.exists() and not settings.fresh:
            trainer.restore(checkpoint.load(last))
        elif settings.start:
            trainer.restore(checkpoint.load(settings.start), after=DEEP)
    except DataError as error:
        sys.exit(str(error))
    (settings.out / "log.jsonl").touch()
    weights = sum(p.numel() for p in trainer.model.parameters())
    print(
        f"{len(trainer.train_rows)} training rows, {trainer.epoch_steps * settings.batch} clips an epoch, {weights / 1e6:.2f} M weights,"
        f" {len(trainer.validation_rows)} validation rows; step {trainer.step} of {trainer.steps}",
        flush=True,
    )
    train(trainer, settings.out)


if __name__ == "__main__":
    main()
