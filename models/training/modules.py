"""The bodies of the gated modules: feed-forward, self-attention, convolution.

Each maps [B, T, d] to the update [B, T, d] that is added to its input when it is executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from model import Shape


def silent(layer: nn.Linear) -> nn.Linear:
    """The last layer of a body starts at zero, so that a deep stack starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ClipDropout(nn.Module):
    """Dropout of whole channels of a clip, [B, T, d]; one random number serves all frames.

    Random numbers for each frame would cost a tenth of the training time on a CPU.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        keep = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= self.p
        return x * (keep / (1.0 - self.p)).to(x.dtype)


class FeedForward(nn.Module):
    """The half-step feed-forward module."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.up = nn.Linear(shape.width, shape.expansion * shape.width)
        self.down = silent(nn.Linear(shape.expansion * shape.width, shape.width))
        self.dropout = ClipDropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.dropout(self.down(F.silu(self.up(self.norm(x)))))


def sinusoids(frames: int, width: int) -> Tensor:
    """[2T-1, d]: row r encodes the distance T - 1 - r (Dai et al. 2019, Transformer-XL)."""
    distance = torch.arange(frames - 1, -frames, -1.0)[:, None]
    angle = distance * 10_000.0 ** (-torch.arange(0, width, 2.0) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Skew(torch.autograd.Function):
    """[N, T, 2T-1] by distance -> [N, T, T] by key, out[i, j] = in[i, T - 1 - i + j], as a view."""

    @staticmethod
    def geometry(count: int, frames: int) -> tuple:
        span = 2 * frames - 1
        return (count, frames, frames), (frames * span, span - 1, 1), frames - 1

    @staticmethod
    def forward(ctx, scores: Tensor) -> Tensor:
        ctx.full = scores.shape
        return scores.contiguous().as_strided(*Skew.geometry(*scores.shape[:2]))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        full = gradient.new_zeros(ctx.full)
        full.as_strided(*Skew.geometry(*ctx.full[:2])).copy_(gradient)
        return full


class Attention(nn.Module):
    """Multi-head self-attention with sinusoidal relative positions."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
        self.head_width = shape.width // shape.heads
        self.norm = nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.position = nn.Linear(shape.width, shape.width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(shape.heads, 1, self.head_width))
        self.position_bias = nn.Parameter(torch.zeros(shape.heads, 1, self.head_width))
        self.out = silent(nn.Linear(shape.width, shape.width))
        self.dropout = ClipDropout(shape.dropout)
        self.register_buffer("sinusoids", sinusoids(shape.frames, shape.width), persistent=False)

    def positions(self, frames: int) -> Tensor:
        """[heads, d/heads, 2T-1], the projected distances: a constant once trained.

        A clip of fewer frames than the shape's has the same rows about distance 0.
        """
        beyond = (self.sinusoids.shape[0] + 1) // 2 - frames
        own = self.sinusoids[beyond : beyond + 2 * frames - 1]
        projected = self.position(own).unflatten(1, (self.heads, self.head_width))
        return projected.permute(1, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames, _ = x.shape
        split = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, self.head_width))
        # each [heads, B * T, d/heads]; heads first, so that one product serves all clips
        q, k, v = split.permute(2, 3, 0, 1, 4).flatten(2, 3)
        q = q * self.head_width**-0.5

        def by_clip(t: Tensor) -> Tensor:
            return t.reshape(self.heads * batch, frames, -1)

        content = by_clip(q + self.content_bias.to(q.dtype)) @ by_clip(k).transpose(1, 2)
        distance = (q + self.position_bias.to(q.dtype)) @ self.positions(frames)
        scores = content + Skew.apply(by_clip(distance))
        with torch.autocast(x.device.type, enabled=False):  # else in 32 bits, at twice the cost
            weights = scores.softmax(-1)
        heard = (weights @ by_clip(v)).view(self.heads, batch, frames, self.head_width)
        return self.dropout(self.out(heard.permute(1, 2, 0, 3).flatten(2)))


class Convolution(nn.Module):
    """Pointwise and GLU, depthwise over time, BatchNorm, Swish, pointwise."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.expand = nn.Linear(shape.width, 2 * shape.width)
        self.depthwise = nn.Parameter(torch.empty(shape.width, shape.kernel))
        nn.init.uniform_(self.depthwise, -(shape.kernel**-0.5), shape.kernel**-0.5)
        self.batch_norm = nn.BatchNorm1d(shape.width)
        self.project = silent(nn.Linear(shape.width, shape.width))
        self.dropout = ClipDropout(shape.dropout)
        frames = torch.arange(shape.frames)
        tap = frames[:, None] - frames + shape.kernel // 2  # [from, to]
        band = tap.flatten() == torch.arange(shape.kernel)[:, None]
        self.register_buffer("band", band.float(), persistent=False)

    def over_time(self, x: Tensor) -> Tensor:
        """The depthwise convolution and BatchNorm, [B, T, d] -> [d, B, T].

        The convolution is a product with a band matrix for each channel: on a CPU that
        takes half the time of the grouped convolution, backwards above all.
        """
        batch, frames, width = x.shape
        most = int(self.band.shape[1] ** 0.5)
        band = self.band.view(-1, most, most)[:, :frames, :frames].flatten(1)
        matrices = (self.depthwise @ band).view(width, frames, frames)
        filtered = x.permute(2, 0, 1) @ matrices
        return self.batch_norm(filtered.view(1, width, -1)).view(width, batch, frames)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(self.norm(x)).chunk(2, dim=-1)
        x = F.silu(self.over_time(value * gate.sigmoid())).permute(1, 2, 0)
        return self.dropout(self.project(x))
