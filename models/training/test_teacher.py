"""The teacher's frames, components and judges; the encoder itself where it is installed."""

from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
import torch

import encoder
import opinion
import teacher
import voices
from data import NO_LABEL, VALIDATION_SPEAKERS
from model import BACKGROUND


def installed() -> bool:
    try:
        return bool(distribution("pipecat-ai"))
    except PackageNotFoundError:
        return False


needs_encoder = pytest.mark.skipif(not installed(), reason="pipecat-ai is not installed; `make test-training` installs it")


def test_frames_are_means_of_the_voice_alone():
    heard = torch.arange(90.0)[None, :, None] * torch.ones(1, 1, 3)
    said = torch.zeros(1, 90, dtype=torch.bool)
    said[0, 10:13] = True
    frames, inside = teacher.bins(heard, said, torch.tensor([90]))
    assert frames.shape == (1, 45, 3) and inside[0].nonzero()[:, 0].tolist() == [5, 6]
    assert (frames[0, 5] == 10.5).all() and (frames[0, 6] == 12.0).all() and (frames[0, 7] == 0.0).all()


def test_a_clip_begins_where_its_own_frames_do():
    """20 own frames at the end of 50: they fill all 45, and what is before them counts for nothing."""
    heard = torch.cat([torch.full((1, 30, 2), 9.0), torch.ones(1, 20, 2)], 1)
    said = torch.arange(50)[None] >= 30
    frames, inside = teacher.bins(heard, said, torch.tensor([20]))
    assert inside.all() and (frames == 1.0).all()


def test_opinions_are_of_utterances_and_contradict_no_label():
    class Table:
        folder = np.zeros(6, int)
        utterance = np.array(["a", "a", "b", "b", "c", "d"])
        label = np.array([0, 0, 0, 0, NO_LABEL, BACKGROUND])

    sure = np.log(np.array([0.8, 0.04, 0.04, 0.04, 0.04, 0.04]))
    unsure = np.log(np.array([0.4, 0.4, 0.05, 0.05, 0.05, 0.05]))
    happy = np.roll(sure, 1)
    clips = np.stack([sure, unsure, happy, unsure, happy, np.zeros(6)]).astype(np.float16)
    found = opinion.agreed(Table(), clips)
    assert np.allclose(np.exp(found[:2].astype(float)), (np.exp(sure) + np.exp(unsure)) / 2, atol=1e-3)
    assert (found[2:4] == 0).all(), "one clip would agree, the utterance does not"
    assert np.allclose(found[4], happy, atol=1e-2), "nobody knows better"
    assert (found[5] == 0).all()


def test_a_window_without_a_label_has_that_of_its_utterance():
    class Table:
        folder = np.array([0, 0, 0, 0, 1])
        utterance = np.array(["a", "a", "b", "b", "a"])
        label = np.array([0, NO_LABEL, NO_LABEL, 1, NO_LABEL])

    happy = np.log(np.array([0.04, 0.8, 0.04, 0.04, 0.04, 0.04]))
    found = opinion.agreed(Table(), np.stack([happy] * 5).astype(np.float16))
    assert (found[:2] == 0).all(), "it contradicts the label, in the window too"
    assert np.allclose(found[2:4], happy, atol=1e-2)
    assert np.allclose(found[4], happy, atol=1e-2), "another folder's utterance of that name, of which nobody knows better"


def test_mean_and_spread_are_of_the_voice():
    heard = torch.zeros(2, 40, 1)
    heard[0, 10:30, 0] = torch.tensor([1.0, 3.0]).repeat(10)
    said = torch.zeros(2, 40, dtype=torch.bool)
    said[0, 10:30], said[1, :3] = True, True
    found = teacher.over_voice(heard, said)
    assert torch.allclose(found, torch.tensor([[2.0, 1.0], [0.0, 0.0]]))


def test_components_have_unit_spread():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6)) * [1, 1, 100, 1, 1, 1] + 5.0
    mean, to = teacher.components(rows, 4)
    found = (rows - mean) @ to
    assert np.allclose(found.std(0), 1.0, atol=0.01) and np.allclose(found.mean(0), 0.0, atol=0.01)
    assert np.allclose(np.corrcoef(found, rowvar=False), np.eye(4), atol=0.01)


def test_silence_is_nobody():
    assert not voices.spoken(np.zeros(16_000, np.float32)).any()


def test_clips_end_together():
    rows = voices.ending_together([np.ones(3, np.float32), np.ones(5, np.float32)])
    assert rows.shape == (2, voices.EIGHT_SECONDS) and rows.sum(1).tolist() == [3.0, 5.0] and (rows[:, -3:] == 1.0).all()


def test_nobody_is_judged_by_who_knows_them():
    class Table:
        corpus = np.array(["emodb"] * 6 + ["nemo"] * 6)
        speaker = np.array([f"emodb-{n}" for n in range(5)] + ["emodb-10"] + [f"nemo-{n}" for n in range(5)] + ["nemo-MP0"])

    pairs = list(opinion.parts(Table(), np.arange(12)))
    assert len(pairs) == opinion.PARTS + 1
    for learnt, asked in pairs:
        assert not set(learnt) & set(asked) and not set(learnt) & VALIDATION_SPEAKERS
    assert sorted(s for _, asked in pairs for s in asked) == sorted(Table.speaker)


def voice(seconds: float = 2.0) -> np.ndarray:
    rng, time = np.random.default_rng(0), np.arange(int(16_000 * seconds)) / 16_000
    return (0.1 * np.sin(2 * np.pi * (150 + 40 * np.sin(3 * time)) * time) * (1 + rng.normal(size=len(time)) / 10)).astype(np.float32)


@needs_encoder
def test_a_clip_is_heard_alike_whatever_room_it_is_given():
    own = teacher.Teacher(torch.device("cpu"))
    samples = voices.ending_together([voice()])
    short, whole = own.hear(samples, 100)[0, -100:].float(), own.hear(samples, teacher.LONGEST)[0, -100:].float()
    assert short.shape == whole.shape == (100, teacher.HEARD * encoder.WIDTH)
    assert np.corrcoef(short.ravel(), whole.ravel())[0, 1] > 0.9


@needs_encoder
def test_the_encoder_computes_what_its_file_does():
    """The file rounds activations to 8 bits on the way, so the first two blocks agree only so far."""
    import onnx
    import onnxruntime

    names = ["add_146", "add_268"]
    model = onnx.load(encoder.package_file("data/smart-turn-v3.2-cpu.onnx"))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    spectra = encoder.Spectra()(torch.from_numpy(voices.ending_together([voice()])), encoder.LONGEST)
    theirs = session.run(names, {"input_features": spectra.numpy()})
    with torch.inference_mode():
        ours = encoder.pretrained().eval()(spectra)
    for their, our in zip(theirs, ours, strict=False):
        assert np.corrcoef(their[0, -100:].ravel(), our[0, -100:].numpy().ravel())[0, 1] > 0.95


def test_a_judge_learns():
    labels = torch.arange(400) % 2
    lessons = torch.randn(400, 8, generator=torch.Generator().manual_seed(0)) + 2.0 * labels[:, None]
    judge = opinion.taught(lessons, labels, np.full(400, 1 / 400), opinion.Schooling(clips=20_000, batch=64), 0)
    assert (judge(lessons).argmax(1) == labels).float().mean() > 0.98


def test_judges_do_not_know_who_they_judge():
    """A speaker's happy clips sound as everybody's sad ones do: only who has learnt from the speaker can tell."""

    class Table:
        folder = np.zeros(320, int)
        corpus = np.array(["emodb"] * 320)
        speaker = np.repeat([f"emodb-0{n}" for n in range(7)] + ["emodb-10"], 40)
        utterance = np.array([str(n) for n in range(320)])
        label = np.arange(320) % 2
        kind = np.array(["utterance"] * 320)
        split = np.array(["train"] * 320)

        def __len__(self):
            return 320

        def rows(self, split):
            return np.flatnonzero(self.speaker != "emodb-10")

    table = Table()
    strange = table.speaker == "emodb-03"
    sound = np.where(strange, 1 - table.label, table.label)
    lessons = np.random.default_rng(0).normal(size=(320, 8)).astype(np.float32) + 3.0 * sound[:, None].astype(np.float32)
    found = opinion.judged(table, lessons, opinion.Schooling(clips=10_000, batch=64), 1).argmax(1)
    assert (found == table.label)[~strange].mean() > 0.95 and (found == table.label)[strange].mean() < 0.2
