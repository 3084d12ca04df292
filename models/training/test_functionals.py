"""Functionals are the statistics that they are said to be, of the windows that hold a voice."""

import numpy as np
import torch

from functionals import BANDS, CEPSTRA, LAGS, PAIRS, SIZE, cosines, functionals


def clip() -> tuple[torch.Tensor, torch.Tensor]:
    """Random features in which rows hang together, and frames 10 to 29 that hold a voice."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 80, 360, generator=generator).cumsum(1) - 40.0
    weight = torch.zeros(1, 1, 45)
    weight[:, :, 10:30] = 1.0 / 20.0
    return features, weight


def test_they_are_numpys_statistics_of_the_voiced_windows():
    features, weight = clip()
    found = functionals(features, weight)[0].numpy()
    assert found.shape == (SIZE,)
    voiced = features[0, :, 80:240].numpy().astype(np.float64)
    away = voiced - voiced.mean(1, keepdims=True)
    spread = np.sqrt(voiced.var(1) + 1e-2)
    even = away / spread[:, None]
    moments = np.stack([voiced.mean(1), spread, (even**3).mean(1), (even**4).mean(1), np.abs(even).mean(1)], 1)
    assert np.allclose(found[:400], moments.ravel(), rtol=1e-4, atol=1e-4)
    pairs = 400 + len(PAIRS) * np.arange(3)
    for part, begin, end in zip((away[:BANDS], away[BANDS:]), pairs, pairs[1:], strict=False):
        cepstra = cosines().numpy() @ part
        covariance = cepstra @ cepstra.T / cepstra.shape[1]
        assert np.allclose(found[begin:end], [covariance[p] for p in PAIRS], rtol=1e-3, atol=1e-3)
    delta = np.abs(voiced[BANDS:]).mean(1)
    assert np.allclose(found[-BANDS:], delta, rtol=1e-4)
    change = np.abs(np.diff(features[0, :BANDS].numpy(), axis=1))[:, 79:239].mean(1)
    assert np.allclose(found[-2 * BANDS : -BANDS], change, rtol=1e-4)


def test_what_comes_back_every_lag_is_correlated_there():
    features = torch.zeros(1, 80, 360)
    wave = torch.sin(2.0 * torch.pi * torch.arange(360.0) / 32.0)
    features[0, :BANDS] = 10.0 * cosines()[3][:, None] * wave  # the third cepstrum swings, in 32 windows
    found = functionals(features, torch.full((1, 1, 45), 1.0 / 45.0))[0]
    lagged = found[-2 * BANDS - len(LAGS) * CEPSTRA : -2 * BANDS].unflatten(0, (len(LAGS), CEPSTRA))[:, 3]
    by_lag = dict(zip(LAGS, lagged.tolist(), strict=True))
    assert by_lag[32] > 0.85 and by_lag[16] < -0.85 and abs(by_lag[8]) < 0.1


def test_the_cosines_are_orthonormal():
    assert torch.allclose(cosines() @ cosines().T, torch.eye(CEPSTRA), atol=1e-5)
