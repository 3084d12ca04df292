"""The gated Conformer: features of one window in, emotion, speech frames and gates out.

Shapes: B clips, 80 feature rows (40 log-mel, 40 delta), 360 feature windows, T = 45
frames of 80 ms with two speech answers each, d = 120 channels, M = 4 * blocks modules in the order ff1, attention,
convolution, ff2 of block 0, then of block 1, and so on.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import Attention, Convolution, FeedForward

LABELS = ("neutral", "happy", "fear", "disgust", "anger", "sad", "background")
BACKGROUND = LABELS.index("background")
MODULES = ("ff1", "attention", "convolution", "ff2")
ROWS = 80
WINDOWS = 360
STRIDE = 8
SPEECH_FRAMES = 90  # of 40 ms


@dataclass(frozen=True)
class Shape:
    """The sizes of a network; tests use smaller ones than the shipped model."""

    blocks: int = 16
    width: int = 120
    heads: int = 4
    kernel: int = 31
    expansion: int = 4
    stem: int = 48
    context: int = 9
    frames: int = WINDOWS // STRIDE
    dropout: float = 0.1
    head_dropout: float = 0.2

    def to_dict(self) -> dict:
        return asdict(self)


class Output(NamedTuple):
    logits: Tensor  # [B, 7]
    speech: Tensor  # [B, 90] logit of speech in each 40 ms
    p_execute: Tensor  # [B, M] P(execute); 1 where gating is off
    executed: Tensor  # [B, M] 1 where the module's update was added, else 0


def statistics(x: Tensor) -> Tensor:
    """Mean and spread over time, [B, T, d] -> [B, 2d] (Snyder et al. 2018, x-vectors)."""
    return torch.cat([x.mean(1), spread(x, x.mean(1, keepdim=True))], 1)


def spread(x: Tensor, mean: Tensor) -> Tensor:
    return (x - mean).square().mean(1).add(1e-5).sqrt()


def summary(x: Tensor) -> Tensor:
    """What a gate looks at, [B, T, d] -> [B, 3d]: mean, spread and maximum over time.

    Half a second of speech hardly moves the mean of 3.6 s; it does move the maximum.
    """
    return torch.cat([statistics(x), x.amax(1)], 1)


class Stem(nn.Module):
    """Raw features [B, 80, 8T] -> [B, T, d], at an eighth of the rate; never skipped.

    The paper has a quarter; an eighth halves the cost of every module. Two strided
    convolutions, then one over 0.7 s of context in each channel, so that the first gates can
    tell speech from a noise without any module having run.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.register_buffer("mean", torch.zeros(ROWS, 1))
        self.register_buffer("scale", torch.ones(ROWS, 1))
        self.first = nn.Conv1d(ROWS, shape.stem, 8, stride=4, padding=2)
        self.second = nn.Conv1d(shape.stem, shape.width, 3, stride=2, padding=1)
        self.context = nn.Conv1d(shape.width, shape.width, shape.context, padding=shape.context // 2, groups=shape.width)
        self.mix = nn.Linear(shape.width, shape.width)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, features: Tensor) -> Tensor:
        x = (features - self.mean) * self.scale
        x = F.silu(self.second(F.silu(self.first(x))))
        around = self.mix(F.silu(self.context(x)).transpose(1, 2))
        return self.norm((x.transpose(1, 2) + around).float())


class Step(NamedTuple):
    """What a module hands on: its output and the summary of it; P(execute), and 1 where it ran."""

    x: Tensor
    pooled: Tensor
    p_execute: Tensor
    executed: Tensor


class Gated(nn.Module):
    """A module that is executed or skipped, as its gate decides from the summary of its input."""

    def __init__(self, body: nn.Module, shape: Shape, open_bias: float = 1.5):
        super().__init__()
        self.body = body
        self.gate = nn.Linear(3 * shape.width, 2)  # logits of (skip, execute)
        nn.init.normal_(self.gate.weight, std=0.01)
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor([-open_bias, open_bias]))

    def p_execute(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Summary [B, 3d] -> logits [B, 2] and P(execute) [B], both in 32 bits."""
        with torch.autocast("cpu", enabled=False):
            logits = self.gate(pooled)
        return logits, logits.softmax(-1)[:, 1]

    def sampled(self, x: Tensor, pooled: Tensor, temperature: float) -> Step:
        """Training: a straight-through Gumbel-softmax sample decides (Jang et al. 2017)."""
        logits, p = self.p_execute(pooled)
        gate = F.gumbel_softmax(logits, tau=temperature, hard=True)[:, 1]
        update = self.body(x)
        x = x + gate[:, None, None].to(update.dtype) * update
        return Step(x, summary(x), p, gate.detach())

    def thresholded(self, x: Tensor, pooled: Tensor, threshold: float) -> Step:
        """Inference: the body is computed only for the clips whose P exceeds the threshold."""
        _, p = self.p_execute(pooled)
        run = p > threshold
        clips = run.nonzero()[:, 0]
        if clips.numel():
            x = x.index_add(0, clips, self.body(x[clips]).to(x.dtype))
            pooled = summary(x)
        return Step(x, pooled, p, run.to(p.dtype))

    def always(self, x: Tensor, pooled: Tensor, keep: bool) -> Step:
        """Training without gates; a module that is not kept is not computed."""
        ones = torch.ones(x.shape[0])
        return Step(x + self.body(x), pooled, ones, ones) if keep else Step(x, pooled, ones, torch.zeros_like(ones))


class Block(nn.Module):
    """Feed-forward, attention, convolution, feed-forward, each behind a gate.

    The norm that closes a Conformer block is left to the heads: without it nothing at all
    happens between two skipped modules, so one product decides all gates of a skipped stretch.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        bodies = (FeedForward(shape), Attention(shape), Convolution(shape), FeedForward(shape))
        self.modules_ = nn.ModuleList(Gated(body, shape) for body in bodies)


class Heads(nn.Module):
    """Speech in each frame; and one class, from frames pooled by learnt attention and from the stem."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.speech = nn.Linear(shape.width, SPEECH_FRAMES * STRIDE // WINDOWS)
        self.attend = nn.Linear(shape.width, 1)
        self.hidden = nn.Linear(4 * shape.width, shape.width)
        self.dropout = nn.Dropout(shape.head_dropout)
        self.classes = nn.Linear(shape.width, len(LABELS))

    def forward(self, x: Tensor, stem: Tensor) -> tuple[Tensor, Tensor]:
        """Last block's output [B, T, d] and the stem's statistics [B, 2d] -> logits [B, 7], speech [B, 90]."""
        x = self.norm(x.float())
        with torch.autocast("cpu", enabled=False):
            weights = self.attend(x).softmax(1)
            mean = (weights * x).sum(1)
            deviation = (weights * x.square()).sum(1).sub(mean.square()).clamp(min=0.0).add(1e-5).sqrt()
            pooled = torch.cat([mean, deviation, stem], 1)
            logits = self.classes(self.dropout(F.silu(self.hidden(self.dropout(pooled)))))
            return logits, self.speech(x).flatten(1)


class GatedConformer(nn.Module):
    """Stem, gated blocks, heads."""

    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.stem = Stem(shape)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.heads = Heads(shape)

    def gated_modules(self) -> list[Gated]:
        """All M modules, in the order of the contract."""
        return [module for block in self.blocks for module in block.modules_]

    def gate_parameters(self) -> list[nn.Parameter]:
        return [p for module in self.gated_modules() for p in module.gate.parameters()]

    def forward(self, features: Tensor, threshold: float = 0.5) -> Output:
        """Inference with hard gates: a module runs if its P(execute) is above `threshold`."""
        return self.run(features, lambda index, module, x, pooled: module.thresholded(x, pooled, threshold))

    def forward_sampled(self, features: Tensor, temperature: float = 1.0) -> Output:
        """Training with gates."""
        return self.run(features, lambda index, module, x, pooled: module.sampled(x, pooled, temperature))

    def forward_ungated(self, features: Tensor, keep: list[bool] | None = None) -> Output:
        """Without gates; modules whose `keep` is false are left out."""
        return self.run(features, lambda index, module, x, pooled: module.always(x, pooled, keep is None or keep[index]))

    def run(self, features: Tensor, advance) -> Output:
        x = self.stem(features)
        pooled = summary(x)
        stem = pooled[:, : 2 * self.shape.width]
        probabilities, executed = [], []
        for index, module in enumerate(self.gated_modules()):
            x, pooled, p, ran = advance(index, module, x, pooled)
            probabilities.append(p)
            executed.append(ran)
        logits, speech = self.heads(x, stem)
        return Output(logits, speech, torch.stack(probabilities, 1), torch.stack(executed, 1))
