"""The teacher's frames, components and judges; the encoder itself where it is installed."""

from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest

import teacher


def installed() -> bool:
    try:
        return bool(distribution("pipecat-ai"))
    except PackageNotFoundError:
        return False


def test_frames_are_means_of_the_voice_alone():
    heard = np.arange(90.0)[:, None] * np.ones((1, 3))
    said = np.zeros(90, bool)
    said[10:13] = True
    frames, inside = teacher.bins(heard, said)
    assert frames.shape == (45, 3) and inside.nonzero()[0].tolist() == [5, 6]
    assert (frames[5] == 10.5).all() and (frames[6] == 12.0).all() and (frames[7] == 0.0).all()


def test_a_short_clip_fills_all_frames():
    frames, inside = teacher.bins(np.ones((20, 2)), np.ones(20, bool))
    assert inside.all() and (frames == 1.0).all()


def test_components_have_unit_spread():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6)) * [1, 1, 100, 1, 1, 1] + 5.0
    mean, to = teacher.components(rows, 4)
    found = (rows - mean) @ to
    assert np.allclose(found.std(0), 1.0, atol=0.01) and np.allclose(found.mean(0), 0.0, atol=0.01)
    assert np.allclose(np.corrcoef(found, rowvar=False), np.eye(4), atol=0.01)


def test_silence_is_nobody():
    assert not teacher.spoken(np.zeros(16_000, np.float32)).any()


@pytest.mark.skipif(not installed(), reason="pipecat-ai is not installed; `make test-training` installs it")
def test_a_clip_is_heard_alike_whatever_room_it_is_given(monkeypatch: pytest.MonkeyPatch):
    rng, seconds = np.random.default_rng(0), np.arange(32_000) / 16_000
    voice = (0.1 * np.sin(2 * np.pi * (150 + 40 * np.sin(3 * seconds)) * seconds) * (1 + rng.normal(size=32_000) / 10)).astype(np.float32)
    own = teacher.Teacher()
    short = own.hear(voice)
    monkeypatch.setattr(teacher, "LENGTHS", (teacher.LONGEST,))
    whole = own.hear(voice)
    assert short.shape == whole.shape == (100, 3 * teacher.WIDTH)
    assert np.corrcoef(short.ravel(), whole.ravel())[0, 1] > 0.9
