#!/usr/bin/env python3
"""Train the gated Conformer on feature folders made by `undertone corpus features`.

    train.py FEATURES... --out RUN        start, or go on where RUN was stopped
    train.py FEATURES... --out RUN --fresh   start again from nothing
    train.py FEATURES... --out RUN --start OTHER/shallow.pt   only the later parts, after another run's first
    train.py FEATURES... --out RUN --start OTHER/last.pt      the later parts once more, after all of another run

RUN then holds last.pt (the checkpoint: for emotions.py, evaluate.py and for going on) and
log.jsonl (a line at every validation). Stop it whenever you like, also with kill -9: at most the
last few minutes are lost, and the outcome is the same as without the stop.

Training has three parts, each with a learning-rate cycle of its own (parts.py):

1. Every second block, without gates. The blocks between stand by: their modules start as the
   identity, so bringing them in later changes nothing at that moment. (Growing a network in
   depth from a trained shallow one: Gong et al. 2019.)
2. All blocks, with sampled gates (Gumbel-softmax, straight-through) and a price on
   P(execute): see objective.py. `--ungated` leaves the gates out: that is the baseline.
3. A short finish, with more background, without the teacher's lessons, and with half of its opinion.

What is validated and exported is a running average of the weights (Polyak).
"""

import argparse
import hashlib
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import checkpoint
from augment import Change, augment
from average import Average
from data import DataError, Table, load, together
from deck import Deck
from evaluate import measure
from model import BACKGROUND, MODULES, GatedConformer, Keep, Output, Shape
from objective import Objective
from parts import LATER, SETTINGS, Part, command_line, completed, parts
from progress import Progress
from pupil import Pupil, imitation_loss, opinion_loss
from recorded import Recorded
from runtime import quicken

SAVE_SECONDS = 180.0
GATE_SPEED = 3.0  # the gates have half of the steps only
LAP_EPOCHS, LAP_STEPS = 10_000, 100_000_007  # what is added to numbers that random draws come from, when parts are gone through again


class Trainer:
    """A run: the network, its optimizer, and the step it is at."""

    def __init__(self, table: Table, shape: Shape, settings: argparse.Namespace):
        self.table, self.settings = table, settings
        self.device = torch.device(settings.device)
        self.taught = bool(table.lessons) and settings.teacher > 0
        rows = table.rows("everything" if settings.everything else "train")
        self.train_rows = table.without(settings.without, rows)
        self.validation_rows = {split: one_of_each(table, table.rows(split)) for split in ("validation", "validation_seen")}
        self.parts = parts(table, rows, settings)
        self.objective = Objective(settings.smoothing, 1.0, settings.budget, settings.gate_cost, settings.background_gate_cost)
        torch.manual_seed(settings.seed)
        self.model = GatedConformer(shape)
        standardize(self.model, table, self.train_rows, settings.seed)
        self.pupil = Pupil(shape, *(table.lessons[0][n].shape[-1] for n in (0, 2))).to(self.device) if self.taught else None
        # An ungated network that a gated one imitates.
        self.master = checkpoint.network(checkpoint.load(settings.master)).to(self.device) if settings.master else None
        self.master_digest = digest(self.master.state_dict()) if self.master else ""
        self.model.to(self.device)
        self.average = Average(self.model)
        own = groups(self.model, self.pupil, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(own, lr=settings.rate, fused=True, capturable=self.device.type == "cuda")
        self.rates = [torch.zeros((), device=self.device) for _ in self.optimizer.param_groups]
        self.deck = Deck(table, self.device, self.taught)
        self.corpora = sorted(set(table.corpus[table.kind == "utterance"]))
        self.names = self.count_names()
        self.sums = torch.zeros(len(self.names), 2, dtype=torch.float64, device=self.device)  # of this epoch: sum and count of each name
        places = [self.corpora.index(c) if k == "utterance" else -1 for c, k in zip(table.corpus, table.kind, strict=True)]
        self.corpus = torch.tensor(places, device=self.device)
        self.rows = torch.zeros(settings.batch, dtype=torch.int64, device=self.device)
        self.loss = torch.zeros((), device=self.device)
        self.change = Change(settings.warp, settings.colour, settings.mask_bands, settings.mask_windows)
        self.recorded = [Recorded(partial(self.learn, part), self.device) for part in self.parts]
        self.step = 0
        self.before: dict[str, list[str]] = {}  # corpora that the weights had learnt from before this run (recover.py)
        self.first = ""  # which weights the later parts go on from: a digest
        self.lap = 0  # how often the later parts had been gone through before

    @property
    def steps(self) -> int:
        return self.parts[-1].end

    @property
    def shallow_steps(self) -> int:
        return self.parts[0].end

    def part(self) -> int:
        """Which of the parts the step at hand belongs to."""
        return next((n for n, part in enumerate(self.parts) if self.step < part.end), len(self.parts) - 1)

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
            "steps": self.steps,
            "sums": self.sums.tolist(),
            "settings": {name: value for name, value in vars(self.settings).items() if name in SETTINGS},
            "features": self.table.configuration,
            "data_digest": self.table.digest,
            "corpora": together(self.table.corpora(self.train_rows), self.before),
            "before": self.before,
            "first": self.first,
            "lap": self.lap,
            "master": self.master_digest,
        }

    def restore(self, content: dict, after: tuple[str, ...] = ()) -> None:
        """Go on from a checkpoint; the settings named in `after` may differ from those it was made with."""
        mine = self.state()

        def bound(state: dict, name: str) -> object:
            if name != "settings":
                return state[name]
            return {n: v for n, v in completed(state[name]).items() if n not in after}

        for name in ("settings", "features", "data_digest", "shape"):
            if bound(content, name) != bound(mine, name):
                raise DataError(f"the checkpoint was made with other {name}:\n  {content[name]}\nnot\n  {mine[name]}\nGive --fresh to start again.")
        if not after and content.get("master", "") != mine["master"]:
            raise DataError("the checkpoint was made with another --master, or without. Name the one it was made with, or give --fresh to start again.")
        if not after and content.get("steps", mine["steps"]) != mine["steps"]:
            raise DataError(f"the checkpoint is of a run of {content['steps']} steps, and this one has {mine['steps']}. Give --fresh to start again.")
        self.model.load_state_dict(content["model"])
        self.average.restore(content["average"], content["step"])
        if self.pupil:
            self.pupil.load_state_dict(content["pupil"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = content["step"]
        self.before, self.first, self.lap = content.get("before", {}), content.get("first", ""), content.get("lap", 0)
        if len(content["sums"]) == len(self.names):  # else it had no master; between two parts nothing is counted
            self.sums.copy_(torch.tensor(content["sums"], dtype=torch.float64))

    def again(self) -> None:
        """Go through the later parts once more, from the average of a run that is through, with other draws of clips and changes."""
        self.first = digest(self.average.state)
        self.model.load_state_dict(self.average.state)
        self.average.updates = self.step = self.shallow_steps
        self.lap += 1

    def rows_of(self, part: Part, epoch: int) -> np.ndarray:
        """The rows of each step of an epoch."""
        return part.rows(epoch + LAP_EPOCHS * self.lap, self.settings.seed)

    def advance(self, rows: np.ndarray) -> Tensor:
        """One step of the optimizer on these rows; returns the loss."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step + LAP_STEPS * self.lap)
        self.rows.copy_(torch.from_numpy(rows))
        number = self.part()
        rate = self.parts[number].rate_at(self.step)
        for group, own in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = own.fill_(rate * group["speed"]) if self.device.type == "cuda" else rate * group["speed"]
        if self.step == self.shallow_steps and self.settings.shut and not self.settings.ungated:
            self.shut()
        self.model.train()
        if self.settings.hold and self.parts[number].deep:
            self.hold()
        self.recorded[number]()
        self.average.update(self.model, self.parts[number].average)
        self.step += 1
        return self.loss

    def learn(self, part: Part) -> None:
        """Look at the rows of `self.rows`, and learn from them. On a GPU this is recorded: shapes and places stay."""
        batch = self.deck.batch(self.rows)
        features = augment(batch.features, self.model.stem.mean, self.change)
        gated = part.gated
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
            if gated:
                output = self.model.forward_sampled(features, keep=self.kept(part.deep) if self.settings.drop_gated else None)
            else:
                output = self.model.forward_ungated(features, None if part.deep and self.settings.hold else self.kept(part.deep))
        losses = self.objective.losses(output, batch.labels, batch.frames, gated)
        if self.pupil:
            lessons = self.pupil.losses(output, batch.lesson)
            opinion = opinion_loss(output.logits, batch.lesson.opinion)
            losses |= lessons | {"teacher_class": opinion}
            losses["total"] = losses["total"] + part.teacher * sum(lessons.values()) + part.opinion * opinion
        if self.master and gated:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
                theirs = self.master.forward_ungated(features)
            losses["imitation"] = imitation_loss(output, theirs, batch.frames)
            losses["total"] = losses["total"] + self.settings.imitate * losses["imitation"]
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.loss.copy_(losses["total"].detach())
        self.count(batch.labels, output, losses)

    @torch.no_grad()
    def shut(self) -> None:
        """Shut the gates of the blocks that have stood by, in the average, too."""
        for index in range(1, self.model.shape.blocks, 2):
            for bias in (self.model.blocks[index].gate.bias, self.average.state[f"blocks.{index}.gate.bias"]):
                bias.copy_(-bias.abs())

    def hold(self) -> None:
        """Leave the stem and the blocks as they are: no gradient, no dropout, and batches that are not measured."""
        for still in (self.model.stem, *(block.bodies for block in self.model.blocks)):
            still.eval().requires_grad_(False)

    def kept(self, deep: bool) -> list[list[Keep]]:
        """Stochastic depth, for each clip by itself and rarer in the first blocks (Huang et al. 2016)."""
        blocks = self.model.shape.blocks
        modules = blocks * len(MODULES)
        chance = self.settings.drop_modules * (torch.arange(modules, device=self.device) + 1) / modules
        drawn = (torch.rand(modules, len(self.rows), device=self.device) >= chance[:, None]).float().unflatten(0, (blocks, -1))
        return [[drawn[b, m] if stands else False for m, stands in enumerate(row)] for b, row in enumerate(self.standing(deep))]

    def count_names(self) -> list[str]:
        losses = ["total", "class", "someone", "speech", "gates"] + (["teacher_frames", "teacher_clip", "teacher_class"] if self.pupil else []) + ["imitation"] * bool(self.master)
        return [f"loss_{name}" for name in losses] + ["p_execute_background", "p_execute_speech"] + [f"accuracy_{c}" for c in self.corpora]

    @torch.no_grad()
    def count(self, labels: Tensor, output: Output, losses: dict) -> None:
        """Add a batch to the sums that the epoch's line is made of."""
        right, probability = output.logits.argmax(1) == labels, output.p_execute.mean(1)
        noise, corpus, one = labels == BACKGROUND, self.corpus[self.rows], torch.ones((), device=self.device)
        found = {f"loss_{name}": (value, one) for name, value in losses.items()}
        found |= {f"p_execute_{name}": ((probability * own).sum(), own.sum()) for name, own in (("background", noise), ("speech", ~noise))}
        found |= {f"accuracy_{c}": ((right & (corpus == n)).sum(), (corpus == n).sum()) for n, c in enumerate(self.corpora)}
        none = (torch.zeros_like(one), torch.zeros_like(one))
        self.sums += torch.stack([torch.stack([part.double() for part in found.get(name, none)]) for name in self.names])

    def means(self) -> dict[str, float]:
        """Of this epoch so far; only what was counted."""
        return {name: total / count for name, (total, count) in zip(self.names, self.sums.tolist(), strict=True) if count}

    def finish_epoch(self) -> dict:
        """Validation, and the epoch's figures."""
        means = self.means()
        self.sums.zero_()
        part = next(part for part in self.parts if self.step <= part.end and part.epochs)
        gated, keep = part.gated, None if part.gated else self.standing(part.deep)
        network = self.average.network(self.model.shape).to(self.device)
        figures = {split: measure(network, self.table, rows, 0.5 if gated else None, keep) for split, rows in self.validation_rows.items() if rows.size}
        return {"epoch": part.epoch(self.step - 1)[0] + 1, "gated": gated, "train": means, **figures}


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


def told(figures: dict) -> str:
    """Accuracy by corpus, and their mean."""
    return "  ".join(f"{n} {100 * v:.1f}" for n, v in (figures["accuracy"] | {"mean": figures["mean_accuracy"]}).items())


def summary(entry: dict) -> str:
    """An epoch's line of the log as text; corpora without validation speakers have no figures of them."""
    train = entry["train"]
    losses = "  ".join(f"{n[5:]} {v:.3f}" for n, v in train.items() if n.startswith("loss_"))
    seen = "  ".join(f"{n[9:]} {100 * v:.1f}" for n, v in train.items() if n.startswith("accuracy_"))
    text = [
        f"epoch {entry['epoch']}{' gated' if entry['gated'] else ''}  {entry['clips_per_second']:.1f} clips/s  {entry['left']} left",
        f"  loss        {losses}",
        f"  P(execute)  speech {train['p_execute_speech']:.3f}  background {train['p_execute_background']:.3f}",
        f"  train       {seen}",
    ]
    if validation := entry.get("validation"):
        frames = validation["frame_recall"]
        text += [
            f"  validation  {told(validation)}  background vs speech {100 * validation['background_vs_speech']:.2f}",
            f"  skipped     speech {100 * validation['skipped_speech']:.1f} %  background {100 * validation['skipped']['background']:.1f} %"
            f"  frames: speech {100 * frames['speech']:.1f} %  background {100 * frames['background']:.1f} %",
        ]
    if "validation_seen" in entry:
        text.append(f"  known       {told(entry['validation_seen'])}")
    return "\n".join(text)


def train(trainer: Trainer, out: Path, until: int | None = None) -> None:
    """Run to the end, or to step `until`; `out`/last.pt always holds a recent state."""
    settings, saved = trainer.settings, time.monotonic()
    epochs, ends = sum(part.epochs for part in trainer.parts), {part.end for part in trainer.parts}
    progress = Progress(trainer.steps, settings.batch, out / "log.jsonl")
    while trainer.step < (until or trainer.steps):
        part = trainer.parts[trainer.part()]
        epoch, place = part.epoch(trainer.step)
        for rows in trainer.rows_of(part, epoch)[place:]:
            loss = trainer.advance(rows)
            progress.advance(trainer.step, f"epoch {epoch + 1}/{epochs}", loss)
            # The end of a part is saved with its line of the log, below.
            if (time.monotonic() - saved > SAVE_SECONDS and trainer.step not in ends) or trainer.step == until:
                checkpoint.save(out / "last.pt", trainer.state())
                saved = time.monotonic()
            if trainer.step == until:
                return
        if (epoch + 1) % settings.validate and trainer.step not in ends:
            continue
        entry = trainer.finish_epoch()
        if trainer.step == trainer.shallow_steps:
            trainer.first = digest(trainer.model.state_dict())
            checkpoint.save(out / "shallow.pt", trainer.state())
        entry |= {"clips_per_second": progress.rate(), "left": progress.left(trainer.step)}
        checkpoint.save(out / "last.pt", trainer.state())
        progress.record(entry)
        progress.tell(summary(entry))


def digest(state: dict[str, Tensor]) -> str:
    """Of the weights of a network."""
    return hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in state.values())).hexdigest()


def first_of(content: dict, shallow_steps: int) -> str:
    """What the later parts name that go on from this checkpoint."""
    return digest(content["average"]) if content["step"] > shallow_steps else content.get("first", "")


def begin(trainer: Trainer) -> None:
    """Go on where the run was stopped, or start another, whose log is then empty."""
    settings, last = trainer.settings, trainer.settings.out / "last.pt"
    if last.exists() and not settings.fresh:
        trainer.restore(checkpoint.load(last))
        if settings.start and settings.start.exists() and first_of(checkpoint.load(settings.start), trainer.shallow_steps) != trainer.first:
            raise DataError(f"{last} does not go on from {settings.start}. Give --fresh to start again.")
    elif settings.start:
        content = checkpoint.load(settings.start)
        trainer.restore(content, after=LATER)
        if trainer.step > trainer.shallow_steps:
            if trainer.step < content.get("steps", trainer.steps):
                raise DataError(f"{settings.start} is of a run that is in its later parts still. Let it come to its end first.")
            trainer.again()
    open(settings.out / "log.jsonl", "w" if settings.fresh else "a", encoding="utf-8").close()


def main() -> None:
    settings = command_line(__doc__).parse_args()
    quicken(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    try:
        table = load(settings.data)
        trainer = Trainer(table, Shape(dropout=settings.dropout, head_dropout=settings.head_dropout), settings)
        begin(trainer)
    except DataError as error:
        sys.exit(str(error))
    weights = sum(p.numel() for p in trainer.model.parameters())
    print(
        f"{len(trainer.train_rows)} training rows, {trainer.parts[0].epoch_steps * settings.batch} clips an epoch, {weights / 1e6:.2f} M weights,"
        f" {sum(map(len, trainer.validation_rows.values()))} validation rows; step {trainer.step} of {trainer.steps}",
        flush=True,
    )
    if settings.teacher > 0 and not table.lessons:
        print("without a teacher: teacher.py and opinion.py have not been run on every folder", flush=True)
    train(trainer, settings.out)


if __name__ == "__main__":
    main()
