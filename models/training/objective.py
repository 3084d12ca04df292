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
    gate_cost: float = 0.1  # on the mean P(execute) of a clip with speech, as in the paper
    background_gate_cost: float = 1.0  # likewise for background; the paper has 0.1 here too

    def losses(self, output: Output, labels: Tensor, frames: Tensor, gated: bool) -> dict[str, Tensor]:
        """Labels int64 [B], frames int8 [B, T] -> the terms; `total` is what to minimise."""
        terms = {
            "class": class_loss(output.logits, labels, self.smoothing),
            "speech": speech_loss(output.speech, frames),
        }
        total = terms["class"] + self.speech_weight * terms["speech"]
        if gated:
            cost = torch.where(labels == BACKGROUND, self.background_gate_cost, self.gate_cost)
            terms["gates"] = (cost * output.p_execute.mean(1)).mean()
            total = total + terms["gates"]
        return {"total": total, **terms}


def class_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy over the clips that have a label; 0 if none has."""
    known = labels != NO_LABEL
    if not known.any():
        return logits.sum() * 0.0
    return F.cross_entropy(logits[known], labels[known], label_smoothing=smoothing)


def speech_loss(speech: Tensor, frames: Tensor) -> Tensor:
    """Binary cross-entropy over the frames that are not ignored."""
    known = frames != IGNORED_FRAME
    if not known.any():
        return speech.sum() * 0.0
    return F.binary_cross_entropy_with_logits(speech[known], frames[known].float())


def learning_rate(step: int, steps: int, peak: float, warm_up: float = 0.1) -> float:
    """One cycle: a cosine from peak / 25 up to the peak, and another down to almost nothing."""
    rising = max(1.0, warm_up * steps)
    if step < rising:
        low, part = peak / 25, step / rising
        return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * part))
    part = (step - rising) / max(1.0, steps - rising)
    return peak * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * part)))
