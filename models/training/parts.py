"""The parts of a training run, and the settings of all of them."""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from augment import Change
from data import DataError, Mix, Sampler, Table
from objective import Objective, learning_rate


@dataclass(frozen=True)
class Part:
    """Some epochs with a learning-rate cycle of their own."""

    sampler: Sampler
    batch: int
    epochs: int
    rate: float  # its peak
    deep: bool  # all blocks, not only every second one
    gated: bool
    teacher: float  # weight of the lessons
    opinion: float
    average: float  # decay of the running average of the weights
    first_step: int
    first_epoch: int

    @cached_property
    def epoch_steps(self) -> int:
        return self.sampler.clips() // self.batch

    @property
    def end(self) -> int:
        """The step after its last."""
        return self.first_step + self.epochs * self.epoch_steps

    def epoch(self, step: int) -> tuple[int, int]:
        """The epoch of a step, counted from the run's first, and the step's place in it."""
        epoch, place = divmod(step - self.first_step, self.epoch_steps)
        return self.first_epoch + epoch, place

    def rate_at(self, step: int) -> float:
        return learning_rate(step - self.first_step, self.end - self.first_step, self.rate)

    def rows(self, epoch: int, seed: int) -> np.ndarray:
        """The rows of each step of an epoch, [steps, batch]; the same whenever it is asked for."""
        drawn = self.sampler.epoch(np.random.default_rng([seed, epoch]))[: self.epoch_steps * self.batch]
        return drawn.reshape(self.epoch_steps, self.batch)


def parts(table: Table, rows: np.ndarray, settings: argparse.Namespace) -> list[Part]:
    """Shallow, deep, and the finish. Without a corpus its share goes to the others, so that as many clips are learnt from."""
    learnt = table.without(settings.without, rows)
    whole = Sampler(table, rows, Mix()).utterances if settings.without else 0
    gated = not settings.ungated
    mix, more = (Mix(settings.windows, share, settings.balance) for share in (settings.background, settings.finish_background))
    own = (
        (mix, settings.shallow_epochs, settings.rate, False, False, settings.teacher, settings.opinion, settings.average),
        (mix, settings.deep_epochs, settings.deep_rate, True, gated, settings.teacher, settings.opinion, settings.average),
        (more, settings.finish_epochs, settings.finish_rate, True, gated, 0.0, settings.finish_opinion, settings.finish_average),
    )
    found: list[Part] = []
    step = epoch = 0
    for drawn, *rest in own:
        sampler = Sampler(table, learnt, drawn, whole)
        if sampler.clips() < settings.batch:
            raise DataError(f"an epoch has {sampler.clips()} clips, fewer than one batch of {settings.batch}")
        found.append(Part(sampler, settings.batch, *rest, step, epoch))
        step, epoch = found[-1].end, epoch + found[-1].epochs
    return found


SETTINGS = {  # what a run cannot change when it goes on; the value is (default, help)
    "shallow_epochs": (160, "how often about every utterance is seen by every second block"),
    "deep_epochs": (30, "how often by all blocks, gated"),
    "finish_epochs": (4, "how often at the end, with more background and without lessons"),
    "ungated": (False, "no gates in the later parts: the baseline"),
    "batch": (128, "clips in a step"),
    "rate": (1.6e-3, "peak learning rate of the shallow part"),
    "deep_rate": (6e-4, "peak learning rate of the deep part"),
    "finish_rate": (2e-4, "peak learning rate of the finish"),
    "weight_decay": (0.05, "AdamW's, on matrices only"),
    "average": (0.995, "decay of the running average of the weights"),
    "finish_average": (0.985, "the same in the finish, which is short"),
    "clip": (1.0, "norm to which gradients are cut"),
    "smoothing": (0.1, "label smoothing"),
    "budget": (Objective.budget, "share of modules that speech may run for nothing"),
    "gate_cost": (Objective.gate_cost, "price of what speech runs above its budget"),
    "background_gate_cost": (Objective.background_gate_cost, "price of P(execute) on background"),
    "drop_modules": (0.1, "chance that the last module is left out while there are no gates"),
    "drop_gated": (False, "the same while there are gates: modules that these let run are left out at times"),
    "dropout": (0.05, "dropout at the end of each module"),
    "head_dropout": (0.1, "dropout in the class head"),
    "imitate": (1.0, "weight of what a gated network learns from --master, where one is given"),
    "shut": (False, "the gates of the blocks that stood by begin shut: what they would cost is spent on the others"),
    "hold": (False, "the stem and the blocks stay as they are in the later parts: gates and heads alone learn"),
    "teacher": (2.0, "weight of the teacher's lessons, where teacher.py has written them; 0: nothing of the teacher, nor its opinion"),
    "opinion": (1.0, "weight of the teacher's opinion of the emotion, likewise"),
    "finish_opinion": (0.5, "the same in the finish"),
    "warp": (Change.warp, "largest change of the frequency axis"),
    "colour": (Change.colour_db, "deviation of a random frequency response, dB"),
    "mask_bands": (Change.bands, "widest mask over bands"),
    "mask_windows": (Change.windows, "widest mask over windows"),
    "everything": (False, "learn from the validation speakers and utterances too, once the recipe is settled: their figures then mean nothing"),
    "without": ("", "a corpus whose voices are not learnt from, to see how its emotions are told then (cross.py)"),
    "windows": (Mix.windows, "share of utterances that come again as a window"),
    "background": (Mix.background, "share of background clips"),
    "finish_background": (0.35, "the same in the finish"),
    "balance": (Mix.balance, "corpora of n utterances get shares as n ** balance"),
    "seed": (1, "of everything random"),
}

# What the first part does not depend on.
LATER = (
    *("deep_epochs", "deep_rate", "ungated", "imitate", "shut", "drop_gated", "hold", "budget", "gate_cost", "background_gate_cost"),
    *("finish_epochs", "finish_rate", "finish_opinion", "finish_average", "finish_background"),
)


def completed(settings: dict) -> dict:
    """The settings of a checkpoint; an older one does not name what has become a setting since."""
    return {name: default for name, (default, _) in SETTINGS.items()} | settings


def command_line(description: str) -> argparse.ArgumentParser:
    """The command line of train.py."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="feature folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; goes on if it has a checkpoint")
    parser.add_argument("--fresh", action="store_true", help="start again even if there is a checkpoint")
    parser.add_argument("--start", type=Path, help="shallow.pt of another run: train the later parts only; its last.pt: these parts once more, after all of it")
    parser.add_argument("--master", type=Path, help="last.pt of an ungated run: a gated network imitates what it makes of voices")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--validate", type=int, default=10, help="epochs from one validation to the next (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads; more only on cores that are otherwise idle (default: %(default)s)")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false", help="32-bit arithmetic: twice as fast on processors without matrix units for bfloat16")
    for name, (default, text) in SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            parser.add_argument(flag, type=type(default), default=default, help=f"{text} (default: %(default)s)")
    return parser
