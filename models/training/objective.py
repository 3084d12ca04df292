"""What training minimises, and how fast it goes: losses and the learning rate."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data import IGNORED_FRAME, NO_LABEL
from model import BACKGROUND, Output


@dataclass(frozen=True)
class Objective:
    smoothing: float = 0.1
    speech_weight: float = 1.0
    budget: float = 0.45  # share of modules that speech may run for nothing
    gate_cost: float = 4.0  # on what speech runs above its budget
    background_gate_cost: float = 40.0  # on the mean P(execute) of background

    def losses(self, output: Output, labels: Tensor, frames: Tensor, gated: bool) -> dict[str, Tensor]:
        """Labels int64 [B], frames int8 [B, T] -> the terms; `total` is what to minimise.

        The paper charges 0.1 times the mean P(execute) whatever is heard. Here a module that
        runs on background is never of use and always costs, and speech has a budget.
        """
        terms = {
            "class": class_loss(output.logits, labels, self.smoothing),
            "someone": someone_loss(output.logits, labels, frames),
            "speech": speech_loss(output.speech, frames),
        }
        total = terms["class"] + terms["someone"] + self.speech_weight * terms["speech"]
        if gated:
            noise = labels == BACKGROUND
            run = output.p_execute.mean(1)
            idle = self.background_gate_cost * (run * noise).sum()
            speech = (~noise).sum()
            busy = self.gate_cost * ((run * ~noise).sum() / speech.clamp(min=1) - self.budget).clamp(min=0.0) * speech
            terms["gates"] = (idle + busy) / len(labels)
            total = total + terms["gates"]
        return {"total": total, **terms}


def someone_loss(logits: Tensor, labels: Tensor, frames: Tensor, least: float = 0.08) -> Tensor:
    """-log P(not background) over the clips whose emotion is unknown but that hold speech.

    `least` is the share of frames that must be speech: 0.3 s of a window of 3.6 s.
    """
    spoken = (labels == NO_LABEL) & ((frames == 1).float().mean(1) >= least)
    rest = torch.cat([logits[:, :BACKGROUND], logits[:, BACKGROUND + 1 :]], 1).logsumexp(1)
    return (F.softplus(logits[:, BACKGROUND] - rest) * spoken).sum() / len(labels)


def class_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy over the clips that have a label; 0 if none has."""
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, ignore_index=NO_LABEL, reduction="none")
    return mean_of(each, labels != NO_LABEL)


def speech_loss(speech: Tensor, frames: Tensor) -> Tensor:
    """Binary cross-entropy over the frames that are not ignored."""
    each = F.binary_cross_entropy_with_logits(speech, (frames == 1).float(), reduction="none")
    return mean_of(each, frames != IGNORED_FRAME)


def mean_of(values: Tensor, where: Tensor) -> Tensor:
    """The mean over the places where `where` is true; 0 if it is nowhere. Every shape stays fixed, as recorded steps need."""
    return (values * where).sum() / where.sum().clamp(min=1)


def learning_rate(step: int, steps: int, peak: float, warm_up: float = 0.1) -> float:
    """One cycle: a cosine from peak / 25 up to the peak, and another down to almost nothing."""
    rising = max(1.0, warm_up * steps)
    if step < rising:
        low, part = peak / 25, step / rising
        return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * part))
    part = (step - rising) / max(1.0, steps - rising)
    return peak * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * part)))
