"""The features as a picture: a small convolutional network that tells the emotion from it, whoever speaks.

[B, 80, 360] is seen as two images of 40 bands, log-mel and delta. Four convolutions with a stride of 2 and two
residual units (He et al. 2016) make of them columns of 160 ms; mean and spread of the columns, weighed by learnt attention
(Okabe et al. 2018), tell the emotion. What the network hears, it hears in all bands at once; a convolution over bands knows
a pattern again where another voice has it a little higher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDS = 40
KERNELS = (5, 3, 3, 3)
RESIDUAL = (2, 3)  # after which of the convolutions a residual unit stands
COLUMN = 12  # times the channels of the first convolution: numbers that a column is told by


class Unit(nn.Module):
    """Convolution and BatchNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x))


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = Unit(channels, channels, 3), Unit(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Picture(nn.Module):
    """Raw features [B, 80, 360] -> logits of the emotions [B, 6]; `channels` of the first convolution, twice as many in each further one."""

    def __init__(self, channels: int, emotions: int, rows: int = 2 * BANDS):
        super().__init__()
        self.register_buffer("mean", torch.zeros(rows, 1))
        self.register_buffer("scale", torch.ones(rows, 1))
        widths = [2, *(channels << n for n in range(len(KERNELS)))]
        self.units = nn.ModuleList(Unit(a, b, k, 2) for a, b, k in zip(widths, widths[1:], KERNELS, strict=False))
        self.residual = nn.ModuleDict({str(n): Residual(widths[n + 1]) for n in RESIDUAL})
        width = COLUMN * channels
        self.column = nn.Linear(widths[-1] * height(len(KERNELS)), width)
        self.attend = nn.Linear(width, 1)
        self.classes = nn.Linear(2 * width, emotions)

    def columns(self, features: Tensor) -> Tensor:
        """[B, 80, 360] -> [B, 23, width]."""
        x = ((features - self.mean) * self.scale).unflatten(1, (2, BANDS))
        for number, unit in enumerate(self.units):
            x = F.relu(unit(x))
            if str(number) in self.residual:
                x = self.residual[str(number)](x)
        return F.silu(self.column(x.permute(0, 3, 1, 2).flatten(2)))

    def pooled(self, features: Tensor) -> Tensor:
        """Mean and spread of the columns, [B, 2 width]."""
        x = self.columns(features)
        weight = self.attend(x).softmax(1)
        mean = (weight * x).sum(1)
        spread = ((weight * (x - mean[:, None]).square()).sum(1) + 1e-5).sqrt()
        return torch.cat([mean, spread], 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.classes(self.pooled(features))


def height(units: int, of: int = BANDS) -> int:
    """Rows of the image after this many convolutions with a stride of 2."""
    for _ in range(units):
        of = -(-of // 2)
    return of
