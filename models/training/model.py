"""The gated Conformer: features of one window in, emotion, speech frames and gates out.

Shapes: B clips, 80 feature rows (40 log-mel, 40 delta), 360 feature windows, T = 90
frames of 40 ms, d = 120 channels, M = 4 * blocks modules in the order ff1, attention,
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
STRIDE = 4


@dataclass(frozen=True)
class Shape:
    """The sizes of a network; tests use smaller ones than the shipped model."""

    blocks: int = 16
    width: int = 120
    heads: int = 4
    kernel: int = 31
    expansion: int = 4
    stem: int = 64
    frames: int = WINDOWS // STRIDE
    dropout: float = 0.1

    def to_dict(self) -> dict:
        return asdict(self)


class Output(NamedTuple):
    logits: Tensor  # [B, 7]
    speech: Tensor  # [B, T] logit of speech in each frame
    p_execute: Tensor  # [B, M] P(execute); 1 where gating is off
    executed: Tensor  # [B, M] 1 where the module's update was added, else 0


def statistics(x: Tensor) -> Tensor:
    """Mean and spread over time, [B, T, d] -> [B, 2d] (Snyder et al. 2018, x-vectors)."""
    return torch.cat([x.mean(1), x.var(1, correction=0).add(1e-5).sqrt()], 1)


class Stem(nn.Module):
    """Raw features [B, 80, 360] -> [B, T, d], at a quarter of the rate; never skipped."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.register_buffer("mean", torch.zeros(ROWS, 1))
        self.register_buffer("scale", torch.ones(ROWS, 1))
        self.first = nn.Conv1d(ROWS, shape.stem, 5, stride=2, padding=2)
        self.second = nn.Conv1d(shape.stem, shape.width, 3, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = (features - self.mean) * self.scale
        return F.silu(self.second(F.silu(self.first(x)))).transpose(1, 2)


class Gated(nn.Module):
    """A module that is executed or skipped, as its gate decides from the mean of its input."""

    def __init__(self, body: nn.Module, shape: Shape, open_bias: float = 1.5):
        super().__init__()
        self.body = body
        self.gate = nn.Linear(shape.width, 2)  # logits of (skip, execute)
        nn.init.normal_(self.gate.weight, std=0.01)
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor([-open_bias, open_bias]))

    def p_execute(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, d] -> logits [B, 2] and P(execute) [B], both in 32 bits."""
        with torch.autocast("cpu", enabled=False):
            logits = self.gate(x.float().mean(1))
        return logits, logits.softmax(-1)[:, 1]

    def sampled(self, x: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Training: a straight-through Gumbel-softmax sample decides (Jang et al. 2017)."""
        logits, p = self.p_execute(x)
        gate = F.gumbel_softmax(logits, tau=temperature, hard=True)[:, 1]
        update = self.body(x)
        return x + gate[:, None, None].to(update.dtype) * update, p, gate.detach()

    def thresholded(self, x: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        """Inference: the body is computed only for the clips whose P exceeds the threshold."""
        _, p = self.p_execute(x)
        run = p > threshold
        clips = run.nonzero()[:, 0]
        if clips.numel():
            x = x.index_add(0, clips, self.body(x[clips]).to(x.dtype))
        return x, p, run.to(p.dtype)


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        bodies = (FeedForward(shape), Attention(shape), Convolution(shape), FeedForward(shape))
        self.modules_ = nn.ModuleList(Gated(body, shape) for body in bodies)
        self.norm = nn.LayerNorm(shape.width)


class GatedConformer(nn.Module):
    """Stem, gated blocks, a class head on statistics over time, a speech head on each frame."""

    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.stem = Stem(shape)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.classes = nn.Sequential(
            nn.Linear(4 * shape.width, shape.width), nn.SiLU(), nn.Dropout(shape.dropout), nn.Linear(shape.width, len(LABELS))
        )
        self.speech = nn.Linear(shape.width, 1)

    def gated_modules(self) -> list[Gated]:
        """All M modules, in the order of the contract."""
        return [module for block in self.blocks for module in block.modules_]

    def gate_parameters(self) -> list[nn.Parameter]:
        return [p for module in self.gated_modules() for p in module.gate.parameters()]

    def forward(self, features: Tensor, threshold: float = 0.5) -> Output:
        """Inference with hard gates: a module runs if its P(execute) is above `threshold`."""
        return self.run(features, lambda index, module, x: module.thresholded(x, threshold))

    def forward_sampled(self, features: Tensor, temperature: float = 1.0) -> Output:
        """Training with gates."""
        return self.run(features, lambda index, module, x: module.sampled(x, temperature))

    def forward_ungated(self, features: Tensor, keep: list[bool] | None = None) -> Output:
        """Training without gates; modules whose `keep` is false are not computed at all."""

        def step(index: int, module: Gated, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            kept = keep is None or keep[index]
            ones = torch.ones(x.shape[0])
            return (x + module.body(x), ones, ones) if kept else (x, ones, torch.zeros_like(ones))

        return self.run(features, step)

    def run(self, features: Tensor, step) -> Output:
        x = self.stem(features).float()
        stem = statistics(x)
        probabilities, executed = [], []
        for block in self.blocks:
            for module in block.modules_:
                x, p, ran = step(len(executed), module, x)
                probabilities.append(p)
                executed.append(ran)
            x = block.norm(x)
        logits = self.classes(torch.cat([statistics(x), stem], 1))
        speech = self.speech(x)[..., 0]
        return Output(
            logits.float(), speech.float(), torch.stack(probabilities, 1), torch.stack(executed, 1)
        )
