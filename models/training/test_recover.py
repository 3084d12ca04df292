"""An exported network comes back as it was, and a run begins with it."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import checkpoint
from data import load
from export import build
from graph import lift_weights, store_small
from model import Shape
from recover import Unknown, begun, learnt_from, measured, network_of
from report import KNOWN, speakers_of
from test_export import SMALL, network
from test_train import folder, settings  # noqa: F401  (folder is a fixture)
from train import Trainer

PLAIN = Shape(**SMALL.to_dict() | {"emotions": 0})


def exported(seed: int, small: bool) -> tuple[torch.nn.Module, onnx.ModelProto]:
    model = network(SMALL, seed, 0.0)
    file = build(model)
    if small:
        store_small(file.graph, least=100)
        lift_weights(file.graph, least=100)
    return model, file


def clips(count: int) -> torch.Tensor:
    return 20.0 * torch.randn(count, 80, 360, generator=torch.Generator().manual_seed(5)) - 40.0


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.6])
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("shape", [SMALL, PLAIN])
def test_what_comes_back_answers_as_the_file_does(shape: Shape, small: bool, threshold: float):
    """The emotion head only where the shape has one."""
    model, file = exported(1, small)
    found = network_of(file, shape)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    for block, own in zip(found.blocks, model.blocks, strict=True):
        assert block.bodies[1].position.weight.abs().max() < 2 * own.bodies[1].position.weight.abs().max(), "no larger than it was"
    ran = 0
    for clip in clips(6).split(1):
        given = {"features": clip.numpy(), "gate_threshold": np.array(threshold, np.float32), "emotion": np.array(bool(shape.emotions))}
        logits, speech, p, executed, judged = session.run(None, given)
        with torch.no_grad():
            output = found(clip, threshold if threshold > 0.0 else -1.0)
        assert np.abs(logits - output.logits.numpy()).max() < 1e-3
        assert np.abs(speech - output.speech.numpy()).max() < 1e-3
        assert np.abs(p - output.p_execute.numpy()[0]).max() < 1e-4
        assert (executed == output.executed.numpy()[0]).all()
        ran += int(judged)
    assert (ran > 0) == bool(shape.emotions)


def test_batch_norms_are_measured_and_change_nothing():
    _, file = exported(2, False)
    found, before = network_of(file, PLAIN), network_of(file, PLAIN)
    keep = [[index % 2 == 0] * 4 for index in range(PLAIN.blocks)]
    measured(found, clips(32), keep)
    with torch.no_grad():
        expected, output = before.forward_ungated(clips(4), keep), found.forward_ungated(clips(4), keep)
        assert (output.speech - expected.speech).abs().max() < 1e-3
        # As it stands while it learns: with the statistics of the batch, which are the measured ones here.
        learning = found.train().forward_ungated(clips(32), keep)
        found.eval()
        assert (learning.speech - found.forward_ungated(clips(32), keep).speech).abs().max() < 1e-2
    norms = [block.bodies[2].batch_norm for block in found.blocks]
    assert norms[0].running_mean.abs().max() > 0 and not norms[0]._forward_pre_hooks
    assert norms[1].running_mean.abs().max() == 0, "it does not run"


def test_a_file_of_another_shape_is_refused():
    _, file = exported(3, True)
    with pytest.raises(Unknown):
        network_of(file, Shape(**PLAIN.to_dict() | {"width": 48, "heads": 4}))


def test_a_run_begins_with_what_the_first_part_trains(folder: Path, tmp_path: Path):  # noqa: F811
    model, file = exported(4, False)
    table = load([folder])
    trainer = Trainer(table, PLAIN, argparse.Namespace(**vars(settings(tmp_path))))
    fresh = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    file.metadata_props.add(key="training_data", value=json.dumps({"corpora": "RAVDESS, mine; background: noise_rain; train split"}))
    trainer.before = learnt_from(file)
    begun(trainer, network_of(file, PLAIN))
    own = trainer.model.state_dict()
    assert torch.allclose(own["blocks.0.bodies.1.qkv.weight"], model.blocks[0].bodies[1].qkv.weight, atol=1e-6)
    assert torch.equal(own["blocks.1.bodies.1.qkv.weight"], fresh["blocks.1.bodies.1.qkv.weight"]), "stands by, and starts as the identity"
    assert torch.equal(own["blocks.0.gate.bias"], fresh["blocks.0.gate.bias"])
    assert torch.equal(own["stem.scale"], fresh["stem.scale"])
    assert all(torch.equal(value, own[name]) for name, value in trainer.average.state.items())
    with torch.no_grad():
        keep = trainer.standing(False)
        expected = model.forward_ungated(clips(4), keep).speech
        assert (trainer.model.eval().forward_ungated(clips(4), keep).speech - expected).abs().max() < 1e-3
    checkpoint.save(tmp_path / "last.pt", trainer.state())
    again = Trainer(table, PLAIN, trainer.settings)
    again.restore(checkpoint.load(tmp_path / "last.pt"))
    assert again.step == 0
    assert again.state()["corpora"] == {"voices": ["RAVDESS", "emodb", "mine", "ravdess"], "background": ["noise_fan", "noise_rain"]}
    assert speakers_of(again.state()) == KNOWN, "the file may have heard them"


def test_the_released_file_names_its_corpora():
    released = Path(__file__).parents[1] / "undertone.onnx"
    assert set(learnt_from(onnx.load(released))["voices"]) == {"EMO-DB", "RAVDESS", "nEMO"}


def test_a_file_that_does_not_name_its_corpora_is_refused():
    with pytest.raises(Unknown, match="does not name the corpora"):
        learnt_from(exported(1, False)[1])
