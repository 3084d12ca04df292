"""Functionals: what a whole clip is like, as numbers, after openSMILE (Eyben et al. 2010).

Statistics of the raw features over the windows that hold a voice. The network hears frames of 80 ms; what it
has not kept, and what tells known voices apart best, is how bands move together and how fast.
"""

import math

import torch
from torch import Tensor

BANDS = 40
CEPSTRA = 20  # coefficients of a discrete cosine transform over the bands
LAGS = (2, 4, 8, 16, 32, 64)  # windows of 10 ms in a stream
FLOOR = 1e-2  # added to variances
MOMENTS = 5  # mean, spread, skewness, kurtosis, mean absolute deviation
PAIRS = [(i, j) for i in range(CEPSTRA) for j in range(i, CEPSTRA)]
SIZE = (MOMENTS + 1) * 2 * BANDS + 2 * len(PAIRS) + len(LAGS) * CEPSTRA


def cosines() -> Tensor:
    """The orthonormal DCT-II that turns bands into cepstra, [20, 40]."""
    order, band = torch.arange(float(CEPSTRA))[:, None], torch.arange(float(BANDS)) + 0.5
    scale = torch.full((CEPSTRA, 1), (2.0 / BANDS) ** 0.5)
    scale[0] = (1.0 / BANDS) ** 0.5
    return scale * torch.cos(math.pi * order * band / BANDS)


def functionals(features: Tensor, weight: Tensor) -> Tensor:
    """Features [B, 80, 360], and what each frame weighs [B, 1, T], in sum 1 -> [B, SIZE].

    Moments of each row; covariances of the cepstra, and of those of the deltas; autocorrelation of the cepstra; mean
    change from window to window, and mean absolute delta.
    """
    w = weight.repeat_interleave(features.shape[2] // weight.shape[2], 2) * (weight.shape[2] / features.shape[2])
    mean = (w * features).sum(2, keepdim=True)
    away = features - mean
    spread = ((w * away.square()).sum(2, keepdim=True) + FLOOR).sqrt()
    even = away / spread
    square = even.square()
    moments = [mean, spread, *((w * each).sum(2, keepdim=True) for each in (square * even, square.square(), even.abs()))]
    both = cosines().to(features.device) @ away.unflatten(1, (2, BANDS))  # [B, 2, 20, 360]: cepstra, and of the deltas
    along = both * w[:, None]
    covariances = along @ both.transpose(2, 3)
    rows, columns = torch.tensor(PAIRS, device=features.device).T
    cepstra, still = both[:, 0], along[:, 0]
    power = covariances[:, 0].diagonal(dim1=1, dim2=2) + FLOOR
    lagged = [(still[:, :, lag:] * cepstra[:, :, :-lag]).sum(2) / power for lag in LAGS]
    change = (w[:, :, 1:] * (features[:, :BANDS, 1:] - features[:, :BANDS, :-1]).abs()).sum(2)
    delta = (w * features[:, BANDS:].abs()).sum(2)
    return torch.cat([torch.cat(moments, 2).flatten(1), covariances[:, :, rows, columns].flatten(1), *lagged, change, delta], 1)
