"""Sampling, losses, and stopping and going on."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoint
from data import NO_LABEL, DataError, Mix, Sampler, load, save_array
from missed import choices, missed
from model import BACKGROUND, LABELS, GatedConformer, Shape
from objective import class_loss, speech_loss
from parts import LATER, SETTINGS
from pupil import imitation_loss, opinion_loss
from train import Trainer, begin, train

TINY = Shape(blocks=2, width=8, heads=2, kernel=3, stem=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A feature folder: 12 utterances of two corpora in two variants and a window, 10 backgrounds."""
    rows = []
    for corpus, speaker in (("emodb", "emodb-03"), ("ravdess", "ravdess-01"), ("emodb", "emodb-10")):
        for utterance in range(4):
            label = LABELS[utterance]
            for variant, kind in enumerate(("utterance", "utterance", "window")):
                name = f"{corpus}-{speaker}u{utterance}-{variant}.wav"
                rows.append([name, corpus, speaker, "" if kind == "window" and utterance == 3 else label, "train", kind])
    rows += [[f"background-{i}.wav", "noise_fan", "source", "background", "train", "background"] for i in range(10)]
    rows.append(["emodb-x-0.wav", "emodb", "emodb-11", "sad", "test_unseen", "utterance"])
    rng = np.random.default_rng(0)
    np.save(tmp_path / "features.npy", rng.normal(-40, 10, (len(rows), 80, 360)).astype(np.float16))
    np.save(tmp_path / "frames.npy", rng.integers(-1, 2, (len(rows), 90)).astype(np.int8))
    with open(tmp_path / "index.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "path", "corpus", "speaker", "emotion", "split", "snr_db", "kind"])
        writer.writerows([i, path, corpus, speaker, label, split, "20", kind] for i, (path, corpus, speaker, label, split, kind) in enumerate(rows))
    (tmp_path / "features.json").write_text(json.dumps({"mels": 40}))
    return tmp_path


def test_tests_and_validation_are_never_drawn(folder: Path):
    table = load([folder])
    sampler = Sampler(table, table.rows("train"), Mix())
    for seed in range(5):
        drawn = sampler.epoch(np.random.default_rng(seed))
        assert not set(table.speaker[drawn]) & {"emodb-10", "emodb-11"}
        share = (table.label[drawn] == BACKGROUND).mean()
        assert 0.1 < share < 0.3
    assert set(table.speaker[table.rows("validation")]) == {"emodb-10"}


def test_a_folder_that_does_not_fit_is_refused(folder: Path):
    np.save(folder / "frames.npy", np.zeros((3, 90), np.int8))
    with pytest.raises(DataError, match="shape"):
        load([folder])


def test_unlabelled_clips_and_ignored_frames_cost_nothing():
    logits = torch.randn(4, 7, requires_grad=True)
    labels = torch.tensor([2, NO_LABEL, 5, NO_LABEL])
    class_loss(logits, labels, 0.1).backward()
    assert (logits.grad[[1, 3]] == 0).all() and (logits.grad[[0, 2]] != 0).any()
    assert class_loss(logits, torch.full((4,), NO_LABEL), 0.1) == 0
    speech = torch.randn(2, 3, requires_grad=True)
    speech_loss(speech, torch.tensor([[1, -1, 0], [-1, -1, -1]])).backward()
    assert (speech.grad[1] == 0).all() and speech.grad[0, 1] == 0 and speech.grad[0, 0] != 0


def lessons(folder: Path) -> None:
    """Random lessons of a teacher, for the speech rows of the folder."""
    table, rng = load([folder]), np.random.default_rng(1)
    spoken = table.kind != "background"
    said = (rng.random((len(table), 45)) < 0.5) & spoken[:, None]
    np.save(folder / "teacher-frames.npy", (rng.normal(size=(len(table), 45, 5)) * said[..., None]).astype(np.float16))
    np.save(folder / "teacher-said.npy", said)
    np.save(folder / "teacher-clip.npy", (rng.normal(size=(len(table), 7)) * spoken[:, None]).astype(np.float16))
    opinion = np.log(rng.dirichlet(np.ones(6), len(table))) * (spoken & (table.speaker != "emodb-10"))[:, None]
    np.save(folder / "teacher-class.npy", opinion.astype(np.float16))


def test_a_teacher_is_learnt_from(folder: Path, tmp_path: Path):
    torch.set_num_threads(1)
    (tmp_path / "run").mkdir()
    lessons(folder)
    trainer = Trainer(load([folder]), TINY, settings(tmp_path / "run"))
    rows = trainer.parts[0].rows(0, 1)[0]
    trainer.advance(rows)
    first = {name: mean for name, mean in trainer.means().items() if "teacher" in name}
    assert set(first) == {"loss_teacher_frames", "loss_teacher_clip", "loss_teacher_class"}
    for _ in range(60):
        trainer.sums.zero_()
        trainer.step = 1
        trainer.advance(rows)
    assert all(trainer.means()[name] < first[name] for name in first)
    assert "pupil" in trainer.state() and trainer.state()["pupil"]


def test_a_listener_says_nothing_of_background_and_of_validation_speakers(folder: Path):
    lessons(folder)
    table = load([folder])
    *_, opinion = table.lesson(np.flatnonzero((table.kind == "background") | (table.speaker == "emodb-10")))
    logits = torch.randn(len(opinion), 7, requires_grad=True)
    assert opinion_loss(logits, torch.from_numpy(opinion)) == 0
    known = torch.log(torch.tensor([[0.5, 0.5, 1e-6, 1e-6, 1e-6, 1e-6]]))
    sure = opinion_loss(torch.tensor([[9.0, 9.0, 0, 0, 0, 0, 0]]), known)
    wrong = opinion_loss(torch.tensor([[0.0, 0, 9.0, 9.0, 0, 0, 0]]), known)
    assert abs(sure.item() - np.log(2)) < 0.01 and wrong > sure + 5


def settings(out: Path) -> argparse.Namespace:
    values = {name: default for name, (default, _) in SETTINGS.items()}
    return argparse.Namespace(**values | {"shallow_epochs": 2, "deep_epochs": 2, "finish_epochs": 1, "batch": 4, "bf16": False, "out": out, "fresh": False, "device": "cpu", "validate": 1, "master": None})


def test_stopping_changes_nothing(folder: Path, tmp_path: Path):
    """Across the switching on of the gates, a run in three pieces ends with the same weights."""
    torch.set_num_threads(1)
    (tmp_path / "whole").mkdir(), (tmp_path / "pieces").mkdir()
    table = load([folder])
    whole = Trainer(table, TINY, settings(tmp_path / "whole"))
    train(whole, tmp_path / "whole")
    steps = whole.steps
    for until in (steps // 3, 2 * steps // 3, steps - 2, None):
        piece = Trainer(table, TINY, settings(tmp_path / "pieces"))
        last = tmp_path / "pieces" / "last.pt"
        if last.exists():
            piece.restore(checkpoint.load(last))
        train(piece, tmp_path / "pieces", until)
    ours, theirs = (checkpoint.load(tmp_path / name / "last.pt")["model"] for name in ("whole", "pieces"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_average_goes_on_where_the_network_lies(folder: Path, tmp_path: Path):
    """A checkpoint comes from the disk into the CPU's memory, and the network may be in a GPU's."""
    table = load([folder])
    first, other = Trainer(table, TINY, settings(tmp_path)), Trainer(table, TINY, settings(tmp_path))
    first.advance(first.parts[0].rows(0, 1)[0])
    places = {name: value.data_ptr() for name, value in other.average.state.items()}
    content = first.state()
    other.restore(content)
    assert {name: value.data_ptr() for name, value in other.average.state.items()} == places
    assert all(torch.equal(value, content["average"][name]) for name, value in other.average.state.items())
    assert other.average.updates == 1


def test_a_run_that_starts_again_has_an_empty_log(folder: Path, tmp_path: Path):
    table, own = load([folder]), argparse.Namespace(**vars(settings(tmp_path)) | {"start": None})
    begin(first := Trainer(table, TINY, own))
    train(first, tmp_path)
    log = tmp_path / "log.jsonl"
    begin(again := Trainer(table, TINY, own))
    assert again.step == first.steps and len(log.read_text().splitlines()) == 5
    begin(fresh := Trainer(table, TINY, argparse.Namespace(**vars(own) | {"fresh": True})))
    assert fresh.step == 0 and log.read_text() == ""


def test_an_array_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    save_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2] and len(list(tmp_path.iterdir())) == 1

    def broken(file, array):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(OSError):
        save_array(tmp_path / "b.npy", np.arange(3))
    assert not (tmp_path / "b.npy").exists()


def test_another_recipe_does_not_go_on(folder: Path, tmp_path: Path):
    table = load([folder])
    first = Trainer(table, TINY, settings(tmp_path))
    other = Trainer(table, TINY, argparse.Namespace(**vars(settings(tmp_path)) | {"rate": 1.0}))
    with pytest.raises(DataError, match="settings"):
        other.restore(first.state())


def test_the_deep_part_starts_from_another_run(folder: Path, tmp_path: Path):
    table = load([folder])
    first = Trainer(table, TINY, settings(tmp_path))
    train(first, tmp_path)
    shallow = checkpoint.load(tmp_path / "shallow.pt")
    baseline = Trainer(table, TINY, argparse.Namespace(**vars(settings(tmp_path)) | {"ungated": True}))
    baseline.restore(shallow, after=LATER)
    assert baseline.part() == 1 and baseline.step == baseline.shallow_steps
    other = Trainer(table, TINY, argparse.Namespace(**vars(settings(tmp_path)) | {"rate": 1.0}))
    with pytest.raises(DataError, match="settings"):
        other.restore(shallow, after=LATER)


def test_later_parts_stay_with_their_first_part(folder: Path, tmp_path: Path):
    """A run that is there goes on, but not under the name of another beginning."""
    table = load([folder])
    own, other, later = (argparse.Namespace(**vars(settings(tmp_path / name)) | {"start": None}) for name in ("own", "other", "later"))
    other.seed = own.seed + 1
    for each in (own, other, later):
        each.out.mkdir()
    for each in (own, other):
        train(Trainer(table, TINY, each), each.out)
    later.start = own.out / "shallow.pt"
    trainer = Trainer(table, TINY, later)
    begin(trainer)
    assert trainer.part() == 1 and trainer.first == checkpoint.load(own.out / "last.pt")["first"] != checkpoint.load(other.out / "last.pt")["first"]
    checkpoint.save(later.out / "last.pt", trainer.state())
    begin(Trainer(table, TINY, later))
    later.start = other.out / "shallow.pt"
    with pytest.raises(DataError, match="does not go on from"):
        begin(Trainer(table, TINY, later))


def test_the_later_parts_come_once_more(folder: Path, tmp_path: Path):
    """After all of another run, from its averaged weights and with other draws; and not after one that is not through."""
    table, whole, later = load([folder]), tmp_path / "whole", tmp_path / "later"
    own, again = (argparse.Namespace(**vars(settings(out)) | {"start": None, "ungated": True}) for out in (whole, later))
    whole.mkdir(), later.mkdir()
    half = Trainer(table, TINY, own)
    train(half, whole, half.steps - 1)
    again.start = whole / "last.pt"
    for epochs in (1, 3):  # it has an end of its own
        with pytest.raises(DataError, match="come to its end"):
            begin(Trainer(table, TINY, argparse.Namespace(**vars(again) | {"deep_epochs": epochs})))
    train(half, whole)
    begin(Trainer(table, TINY, argparse.Namespace(**vars(again) | {"deep_epochs": 3})))
    begin(first := Trainer(table, TINY, again))
    done = checkpoint.load(whole / "last.pt")
    assert first.part() == 1 and first.step == first.shallow_steps and first.lap == 1
    assert all(torch.equal(value, done["average"][name]) for name, value in first.model.state_dict().items())
    drawn = [trainer.rows_of(trainer.parts[1], 2).tolist() for trainer in (half, first)]
    assert drawn[0] != drawn[1]
    gated = Trainer(table, TINY, argparse.Namespace(**vars(again) | {"ungated": False}))
    begin(gated)
    assert gated.first == first.first != done["first"]  # gap.py compares these two
    # Stopped and gone on with, it is the same run, and no other's.
    train(first, later, first.shallow_steps + 1)
    begin(piece := Trainer(table, TINY, again))
    assert (piece.step, piece.lap, piece.first) == (first.shallow_steps + 1, 1, first.first)
    train(piece, later)
    assert piece.step == piece.steps and checkpoint.load(later / "last.pt")["lap"] == 1
    again.start = whole / "shallow.pt"
    with pytest.raises(DataError, match="does not go on from"):
        begin(Trainer(table, TINY, again))


def test_blocks_that_do_nothing_are_not_missed(folder: Path):
    """Those that stand by begin as the identity, and nobody misses them; the others are missed."""
    table, model = load([folder]), GatedConformer(Shape(**TINY.to_dict() | {"blocks": 8})).eval()
    for block in model.blocks[::2]:
        for name, value in block.bodies.named_parameters():
            torch.nn.init.normal_(value, std=0.5)
    runs = choices(8)
    rows = table.rows("train")
    found = {name: missed(model, table, rows, runs[name]) for name in runs}
    assert found["every second, from the first on"] == (pytest.approx(0.0, abs=1e-6), 1.0) == found["all but number 2"]
    assert found["every second, from the second on"][0] > 0.1 < found["all but number 1"][0]


def test_modules_are_left_out_with_gates_too(folder: Path, tmp_path: Path):
    """Of the modules that gates let run some are left out for some clips, if asked for; never otherwise."""
    table, ran = load([folder]), {}
    for drop in (False, True):
        trainer = Trainer(table, TINY, argparse.Namespace(**vars(settings(tmp_path)) | {"drop_gated": drop, "drop_modules": 0.9}))
        for block in trainer.model.blocks:
            torch.nn.init.constant_(block.gate.bias, 30.0)
        run, executed = trainer.model.run, []
        trainer.model.run = lambda *given, run=run, executed=executed: executed.append(out := run(*given)) or out
        trainer.step = trainer.shallow_steps
        trainer.advance(trainer.rows_of(trainer.parts[1], 2)[0])
        ran[drop] = executed[0].executed
    assert ran[False].min() == 1 and 0 < ran[True].mean() < 1
    assert ran[True].mean(0)[0] > ran[True].mean(0)[-1]  # the last ones more often


def test_a_gated_network_imitates_another(folder: Path, tmp_path: Path):
    """It comes nearer to its master than without one; the gates of the blocks that stood by begin shut, in the average, too."""
    table, shape = load([folder]), Shape(**TINY.to_dict() | {"blocks": 8})
    own = argparse.Namespace(**vars(settings(tmp_path)) | {"start": None, "ungated": True})
    train(Trainer(table, shape, own), tmp_path)
    away = {}
    for imitate in (0.0, 100.0):
        later = argparse.Namespace(**vars(settings(tmp_path)) | {"start": tmp_path / "shallow.pt", "master": tmp_path / "last.pt", "imitate": imitate, "shut": True, "deep_epochs": 6})
        later.out = tmp_path / str(imitate)
        later.out.mkdir()
        trainer = Trainer(table, shape, later)
        begin(trainer)
        trainer.advance(trainer.parts[1].rows(trainer.parts[1].first_epoch, 1)[0])
        for state in (trainer.model.state_dict(), trainer.average.state):
            assert state["blocks.1.gate.bias"].max() < -2.5 and state["blocks.0.gate.bias"].min() > 2.5
        train(trainer, later.out)
        with pytest.raises(DataError, match="another --master"):
            begin(Trainer(table, shape, argparse.Namespace(**vars(later) | {"master": None})))
        features = torch.from_numpy(table.batch(table.rows("train"))[0])
        frames = torch.from_numpy(table.batch(table.rows("train"))[1])
        with torch.no_grad():
            theirs = trainer.master.forward_ungated(features)
            away[imitate] = float(imitation_loss(trainer.average.network(shape).forward_ungated(features), theirs, frames))
            assert float(imitation_loss(theirs, theirs, frames)) == pytest.approx(0.0, abs=1e-6)
    assert away[100.0] < 0.8 * away[0.0], away
    assert "loss_imitation" in json.loads((tmp_path / "100.0" / "log.jsonl").read_text().splitlines()[-1])["train"]


def test_gates_are_learnt_for_a_network_that_stays(folder: Path, tmp_path: Path):
    """With --hold the stem and the blocks stay to the last bit, in the average, too, with gates and without; gates and heads learn."""
    table, shape = load([folder]), Shape(**TINY.to_dict() | {"blocks": 8})
    own = argparse.Namespace(**vars(settings(tmp_path)) | {"start": None, "ungated": True})
    train(Trainer(table, shape, own), tmp_path)
    before = checkpoint.load(tmp_path / "last.pt")["average"]
    for ungated in (False, True):
        later = argparse.Namespace(**vars(settings(tmp_path)) | {"start": tmp_path / "last.pt", "ungated": ungated, "hold": True, "shut": True})
        later.out = tmp_path / f"held-{ungated}"
        later.out.mkdir()
        begin(trainer := Trainer(table, shape, later))
        train(trainer, later.out)
        for state in (trainer.model.state_dict(), trainer.average.state):
            changed = {name.split(".")[0] + (".gate" if ".gate." in name else "") for name, value in state.items() if not torch.equal(value, before[name])}
            assert changed == ({"heads"} if ungated else {"heads", "blocks.gate"})


def test_a_run_of_another_length_is_not_gone_on_with(folder: Path, tmp_path: Path):
    trainer = Trainer(load([folder]), TINY, settings(tmp_path / "run"))
    content = trainer.state()
    trainer.restore(content)
    with pytest.raises(DataError, match=f"a run of {trainer.steps + 1} steps"):
        trainer.restore(content | {"steps": trainer.steps + 1})
