"""Random changes to features on their way into training; mel and delta rows stay consistent.

All random numbers come from torch's global generator, which train.py seeds at each step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BANDS = 40
FLOOR_DB = -80.0
# Below this band the mel scale is linear in frequency, above it logarithmic (Slaney).
KNEE_BAND = 13.5


@dataclass(frozen=True)
class Change:
    """How much is changed."""

    warp: float = 0.06  # of the frequency axis
    colour_db: float = 1.5
    bands: int = 6  # widest of two masks
    windows: int = 30  # likewise


def augment(features: Tensor, mean: Tensor, change: Change = Change()) -> Tensor:
    """Features [B, 80, 360] in dB -> changed features; `mean` [80, 1] fills what is masked."""
    features = coloured(warped(features, change.warp), change.colour_db)
    return masked(masked(features, mean, False, change.bands), mean, True, change.windows)


def warped(features: Tensor, spread: float) -> Tensor:
    """Scale the frequency axis of each clip by up to 1 +- spread, as other vocal tracts do."""
    batch = features.shape[0]
    device = features.device
    factor = 1.0 + spread * (2.0 * torch.rand(batch, 1, device=device) - 1.0)
    band = torch.arange(float(BANDS), device=device)
    source = (band + (factor - 1.0) * band.clamp(max=KNEE_BAND)).clamp(0.0, BANDS - 1.0)
    # [B, to, from]: linear interpolation between the two neighbours
    matrix = (1.0 - (source[:, :, None] - band).abs()).clamp(min=0.0)
    return (matrix[:, None] @ features.view(batch, 2, BANDS, -1)).flatten(1, 2)


def coloured(features: Tensor, deviation_db: float, terms: int = 3) -> Tensor:
    """Add a smooth random frequency response to the log-mel rows, then refer to the maximum again."""
    device = features.device
    band = (torch.arange(float(BANDS), device=device) + 0.5) / BANDS
    curves = torch.cos(torch.pi * torch.arange(1.0, terms + 1, device=device)[:, None] * band)
    response = deviation_db * torch.randn(features.shape[0], terms, device=device) @ curves
    mel = features[:, :BANDS] + response[:, :, None]
    mel = (mel - mel.amax((1, 2), keepdim=True)).clamp(min=FLOOR_DB)
    return torch.cat([mel, features[:, BANDS:]], 1)


def masked(features: Tensor, mean: Tensor, time: bool, widest: int, count: int = 2) -> Tensor:
    """SpecAugment (Park et al. 2019): `count` spans of up to `widest` windows or bands take the mean."""
    batch, rows, windows = features.shape
    hidden = spans(batch, windows if time else BANDS, widest, count, features.device)
    hidden = hidden[:, None, :] if time else hidden.repeat(1, rows // BANDS)[:, :, None]
    return torch.where(hidden, mean, features)


def spans(batch: int, length: int, widest: int, count: int, device: torch.device) -> Tensor:
    """For each clip, which of `length` places lie in `count` random spans of up to `widest`, bool [B, length]."""
    width = (torch.rand(batch, count, 1, device=device) * (widest + 1)).floor()
    start = torch.rand(batch, count, 1, device=device) * (length - width)
    place = torch.arange(float(length), device=device)
    return ((place >= start) & (place < start + width)).any(1)
