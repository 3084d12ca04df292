"""The emotion head says which emotion, never whether anybody speaks, and only of clips that reach the last blocks."""

import argparse
from pathlib import Path

import numpy as np
import torch

import checkpoint
from data import load
from emotions import SETTINGS, taught
from evaluate import measure
from model import BACKGROUND, GatedConformer, Shape, heard, told, voiced
from picture import Picture
from test_export import SMALL, network, session
from test_train import TINY, folder  # noqa: F401  (folder is a fixture)


def test_the_odds_among_the_emotions_change_and_nothing_else():
    logits, emotions = torch.randn(3, 7), torch.randn(3, 6)
    reached = torch.tensor([True, False, True])
    found = told(logits, emotions, reached)
    assert torch.equal(found[1], logits[1])
    before, after = logits.softmax(1), found.softmax(1)
    assert torch.allclose(before[:, BACKGROUND], after[:, BACKGROUND], atol=1e-6)
    among = after[reached, :BACKGROUND] / (1 - after[reached, BACKGROUND:])
    assert torch.allclose(among, emotions[reached].softmax(1), atol=1e-6)


def test_frames_without_a_voice_are_not_heard():
    x = torch.randn(1, 45, 4)
    speech = torch.full((1, 90), -30.0)
    speech[:, 20:40] = 30.0  # frames 10 to 19
    mean, spread = heard([x, 2 * x], voiced(speech, 45))[0].unflatten(0, (2, 8))
    voice = x[0, 10:20]
    assert torch.allclose(mean[:4], voice.mean(0), atol=0.02)
    assert torch.allclose(spread[4:], 2 * voice.std(0, correction=0), atol=0.02)


def test_clips_that_stop_early_are_left_to_the_class_head():
    model = network(SMALL, 1, 0.0)
    features = 20.0 * torch.randn(8, 80, 360) - 40.0
    for gate in (block.gate for block in model.blocks[8:]):
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.constant_(gate.bias, -9.0)
    head, model.emotions = model.emotions, None
    with torch.no_grad():
        model.heads.classes.bias[BACKGROUND] = -20.0
        plain = model(features).logits
        reaching = model(features, -1.0).logits
        model.emotions = head
        assert torch.equal(model(features).logits, plain)
        assert not torch.allclose(model(features, -1.0).logits, reaching)


def test_where_nobody_is_likelier_than_any_voice_no_emotion_is_asked_for():
    model = network(SMALL, 1, 0.0)
    features = 20.0 * torch.randn(8, 80, 360) - 40.0
    head = model.emotions
    limit, runs = np.array(0.0, np.float32), []
    for bias, changes in ((20.0, False), (-20.0, True)):
        with torch.no_grad():
            model.heads.classes.bias[BACKGROUND] = bias
            model.emotions = None
            plain = model(features, -1.0).logits
            model.emotions = head
            assert torch.equal(model(features, -1.0).logits, plain) != changes
        for gated in (True, False):
            runner = session(model, gated)
            inputs = [{"features": each[None].numpy(), "gate_threshold": limit} for each in features]
            inputs = [{i.name: own[i.name] for i in runner.get_inputs()} for own in inputs]
            runs.append(np.allclose(np.concatenate([runner.run(["logits"], own)[0] for own in inputs]), plain.numpy(), atol=1e-4))
    assert runs == [True, True, False, False], "in the exported graph, with gates and without"


def test_the_head_learns_what_its_clips_are(folder: Path):  # noqa: F811
    torch.set_num_threads(1)
    torch.manual_seed(3)
    table = load([folder])
    shape = Shape(**TINY.to_dict() | {"blocks": 8})
    content = {"shape": shape.to_dict(), "average": GatedConformer(shape).state_dict()}
    values = {name: default for name, (default, _) in SETTINGS.items()}
    values |= {"everything": False, "epochs": 300, "sound_epochs": 300, "batch": 16, "dropout": 0.0, "head_dropout": 0.0, "sound_dropout": 0.0}
    seen = {"settings": {"channels": 2}, "picture": Picture(2, BACKGROUND).state_dict()}
    after = taught(content, seen, table, argparse.Namespace(**values), folder / "final.jsonl")
    assert all(torch.equal(value, after["average"][f"emotions.picture.{name}"]) for name, value in seen["picture"].items())
    assert "emotions.network.hidden.weight" not in content["average"], "the checkpoint it began with stays as it was"
    rows = table.rows("train")
    rows = rows[(table.label[rows] >= 0) & (table.label[rows] < BACKGROUND)]
    with torch.inference_mode():
        logits = checkpoint.network(after)(torch.from_numpy(table.batch(rows)[0])).logits
    assert (logits[:, :BACKGROUND].argmax(1).numpy() == table.label[rows]).mean() > 0.9
    same = {name: value for name, value in after["average"].items() if not name.startswith("emotions.")}
    assert all(torch.equal(value, content["average"][name]) for name, value in same.items())
    assert np.isfinite(measure(checkpoint.network(after), table, table.rows("validation"))["mean_accuracy"])
