"""What is said of a corpus that was left out comes from what has learnt nothing of it."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoint
import cross
from data import DataError, load
from model import GatedConformer, Shape
from test_train import TINY, folder, settings  # noqa: F401  (folder is a fixture)
from train import Trainer

EIGHT = Shape(**TINY.to_dict() | {"blocks": 8})


def with_tests(folder: Path) -> None:  # noqa: F811
    """Some of the clips become test clips, one of ravdess as an unknown voice."""
    index = folder / "index.csv"
    lines = [line.replace(",train,", ",test_seen,") if "-1.wav" in line else line for line in index.read_text().splitlines()]
    lines = [line.replace(",train,", ",test_unseen,") if "ravdess-01u0-0.wav" in line else line for line in lines]
    index.write_text("\n".join(lines) + "\n")


def test_no_voice_of_the_corpus_is_learnt_from(folder: Path, tmp_path: Path):  # noqa: F811
    table = load([folder])
    mine = vars(settings(tmp_path / "run"))
    own = Trainer(table, TINY, argparse.Namespace(**mine | {"without": "ravdess"}))
    assert set(table.corpus[own.train_rows]) == {"emodb", "noise_fan"}
    with pytest.raises(DataError, match="no row is of nemo"):
        Trainer(table, TINY, argparse.Namespace(**mine | {"without": "nemo"}))


def test_listeners_learn_without_it_and_are_judged_on_it_alone(folder: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    with_tests(folder)
    monkeypatch.setitem(cross.emotions.SETTINGS, "batch", (4, ""))
    table = load([folder])
    torch.manual_seed(1)
    ears = cross.Ears(GatedConformer(EIGHT).eval(), table, table, 0.5)
    learnt, learn = [], cross.emotions.learn
    monkeypatch.setattr(cross.emotions, "learn", lambda body, clips, *rest: (learnt.append(len(clips)), learn(body, clips, *rest)))
    lines = cross.crossed(ears, ["emodb", "ravdess"], (0, 1), [1, 2], True)
    counts = {name: int((ears.corpus == name).sum()) for name in ("emodb", "ravdess")}
    assert len(set(counts.values())) == 2, "they can be told apart"
    whole, without_emodb, without_ravdess = sum(counts.values()), counts["ravdess"], counts["emodb"]
    assert learnt == [each for _ in range(2) for each in (whole, whole, without_emodb, without_emodb, without_ravdess, without_ravdess)]
    assert [line.split(" | ")[0] for line in lines] == [f"| {c}, {j}" for c in ("emodb", "ravdess") for j in ("the network", "the sound", "both")]
    judged = {name: sum(int((own == name).sum()) for own, _, _ in ears.test.values()) for name in counts}
    assert f"| ravdess, both | {judged['ravdess']} |" in lines[-1]


def test_a_run_that_may_know_the_corpus_is_refused(tmp_path: Path):
    torch.manual_seed(1)
    whole = {"shape": EIGHT.to_dict(), "average": GatedConformer(EIGHT).state_dict(), "lap": 0, "before": {}}
    clean = {"without": "emodb", "opinion": 0.0, "finish_opinion": 0.0, "ungated": False}
    for change, own, told in (({}, {"without": ""}, "from all corpora"), ({}, {"opinion": 1.0}, "opinions"), ({"lap": 1}, {}, "weights"), ({"before": {"voices": ["emodb"]}}, {}, "weights")):
        checkpoint.save(tmp_path / "last.pt", whole | change | {"settings": clean | own})
        with pytest.raises(SystemExit, match=told):
            cross.left_out(tmp_path)
    checkpoint.save(tmp_path / "last.pt", whole | {"settings": clean})
    assert cross.left_out(tmp_path)[1] == "emodb"


def test_a_table_is_printed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):  # noqa: F811
    with_tests(folder)
    monkeypatch.setitem(cross.emotions.SETTINGS, "batch", (4, ""))
    content = {"shape": EIGHT.to_dict(), "average": GatedConformer(EIGHT).state_dict(), "lap": 0, "before": {}}
    checkpoint.save(tmp_path / "last.pt", content | {"settings": {"without": "emodb", "opinion": 0.0, "finish_opinion": 0.0, "ungated": False}})
    monkeypatch.setattr(sys, "argv", ["cross.py", str(folder), "--test", str(folder), "--runs", str(tmp_path), "--seeds", "1", "2"])
    cross.main()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 + 3 and all(line.count("|") == 6 for line in told) and told[-1].startswith("| emodb, both |")
    assert " ± " in told[-1] and np.isfinite(float(told[-1].split("|")[3].split()[0]))
