"""Corpora that the project does not know: nobody of them is held back by name, and their licences are their own."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoint
import evaluate
import opinion
import report
from convert import label_of
from data import load, together
from export import data_of
from test_train import TINY, folder, lessons, settings  # noqa: F401  (folder is a fixture)
from train import Trainer, train


@pytest.fixture
def strangers(folder: Path) -> Path:  # noqa: F811
    """The folder's rows as those of other corpora, with none of the validation speakers."""
    path = folder / "index.csv"
    path.write_text(path.read_text().replace("emodb", "mine").replace("ravdess", "theirs"))
    assert {line["corpus"] for line in csv.DictReader(path.read_text().splitlines())} == {"mine", "theirs", "noise_fan"}
    return folder


@pytest.fixture
def run(strangers: Path, tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    lessons(strangers)
    (tmp_path / "run").mkdir()
    train(Trainer(load([strangers]), TINY, settings(tmp_path / "run")), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_without_validation_speakers_is_trained_and_measured(strangers: Path, run: Path, tmp_path: Path, monkeypatch, capsys):
    table = load([strangers])
    assert not table.rows("validation").size
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log and all("validation" not in entry for entry in log)
    content = checkpoint.load(run / "last.pt")
    assert content["corpora"] == {"voices": ["mine", "theirs"], "background": ["noise_fan"]}
    figures = evaluate.measure(checkpoint.network(content), table, table.rows("validation"))
    assert figures["rows"] == 0 and np.isnan(figures["mean_accuracy"]) and figures["accuracy"] == {}
    monkeypatch.setattr("sys.argv", ["evaluate.py", str(run / "last.pt"), str(strangers)])
    with pytest.raises(SystemExit, match="no labelled clip of validation"):
        evaluate.main()
    out = tmp_path / "report"
    monkeypatch.setattr("sys.argv", ["report.py", str(run), str(strangers), "--out", str(out)])
    report.main()
    assert {path.name for path in out.iterdir()} == {"training.svg", "gates.svg"}
    assert "no clip of a validation speaker" in capsys.readouterr().err


def test_two_speakers_judge_each_other(strangers: Path):
    path = strangers / "index.csv"
    path.write_text(path.read_text().replace("mine-10", "mine-03"))
    table = load([strangers])
    heard = np.random.default_rng(0).normal(size=(len(table), 4)).astype(np.float32) * (table.kind != "background")[:, None]
    found = opinion.judged(table, heard, opinion.Schooling(clips=64, batch=16, hidden=4), 1)
    assert (found.any(1) == (heard.any(1) & (table.split == "train"))).all()


def test_the_file_names_the_corpora_it_has_learnt_from():
    noise = ["noise_fan"]
    said, licence = data_of({"voices": ["emodb", "nEMO", "ravdess"], "background": noise})
    assert said == "EMO-DB, nEMO, RAVDESS; background: noise_fan; train split"
    assert licence == "CC BY-NC-SA 4.0: RAVDESS and nEMO, which the weights were trained on, are non-commercial"
    assert data_of({"voices": ["mine"], "background": noise}) == ("mine; background: noise_fan; train split", "see the licences of the corpora it was trained on")
    both = data_of({"voices": ["mine", "nemo"], "background": noise})[1]
    assert both.startswith("CC BY-NC-SA 4.0: nEMO,") and both.endswith("; see the licences of the others, too: mine")
    assert "licences of the corpora" in data_of({"voices": ["EMO-DB"], "background": noise})[1]
    assert "licences of the corpora" in data_of({})[1], "an older checkpoint"
    twice = together({"voices": ["nEMO"], "background": noise}, {}, {"voices": ["mine", "nemo"], "background": noise})
    assert data_of(twice) == data_of({"voices": ["mine", "nemo"], "background": noise})


def test_labels_have_the_names_that_evaluate_allows():
    names = {" Angry": "anger", "HAPPINESS": "happy", "joy": "happy", "sadness": "sad", "fearful": "fear", "Disgusted": "disgust", "Sad": "sad"}
    assert {name: label_of(name) for name in names} == names
    assert label_of("calm") == "calm" and label_of("") == ""
