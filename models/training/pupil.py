"""Distillation: the network is asked to tell what a pretrained speech encoder hears (teacher.py).

Emotion labels are six words for three seconds of voice; the teacher's answer is a few hundred numbers about
how it sounds, from a network that heard many thousands of speakers. (Romero et al. 2015, FitNets: hints.)
The pupil's layers exist in training only.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import Output, Shape
from objective import mean_of


class Lesson(NamedTuple):
    """The teacher's answers for a batch, as teacher.py wrote them; F frame and C clip components."""

    frames: Tensor  # [B, 45, F]
    said: Tensor  # bool [B, 45] frames in which somebody speaks
    clip: Tensor  # [B, C]; 0 for clips without a voice
    opinion: Tensor  # [B, 6] log probabilities of the emotions (opinion.py); 0 for clips without


class Pupil(nn.Module):
    """From what the heads see to the teacher's answers."""

    def __init__(self, shape: Shape, frame_targets: int, clip_targets: int):
        super().__init__()
        self.frames = nn.Linear(shape.width, frame_targets)
        self.clip = nn.Linear(4 * shape.width, clip_targets)

    def losses(self, output: Output, lesson: Lesson) -> dict[str, Tensor]:
        """Mean squared errors; 1 is what the mean of all answers would score, since their spread is 1."""
        with torch.autocast(output.pooled.device.type, enabled=False):
            frames = (self.frames(output.frames) - lesson.frames).square().mean(2)
            clip = (self.clip(output.pooled) - lesson.clip).square().mean(1)
        return {"teacher_frames": mean_of(frames, lesson.said), "teacher_clip": mean_of(clip, lesson.said.any(1))}


def imitation_loss(mine: Output, theirs: Output, frames: Tensor) -> Tensor:
    """What the blocks make of voices, and which class is told, against another network; 0 for one that does the same.

    Errors are in spreads of each channel, over the frames in which somebody speaks; `frames` are those of the batch, int8 [B, 90].
    """
    said = (frames.unflatten(1, (mine.frames.shape[1], -1)) == 1).any(2)
    losses = []
    for own, other in zip(mine.depths[1:], theirs.depths[1:], strict=True):
        spread = other.float().flatten(0, 1).std(0) + 1e-3
        losses.append(mean_of(((own.float() - other.float()) / spread).square().mean(2), said))
    surprise = theirs.logits.softmax(1) * (theirs.logits.log_softmax(1) - mine.logits.log_softmax(1))
    return sum(losses) / len(losses) + mean_of(surprise.sum(1), said.any(1))


def opinion_loss(logits: Tensor, opinion: Tensor) -> Tensor:
    """Cross-entropy with how a listener who does not know the speaker would judge; 0 if there is none."""
    told = logits.log_softmax(1)[:, : opinion.shape[1]]
    return mean_of(-(opinion.exp() * told).sum(1), (opinion != 0).any(1))
