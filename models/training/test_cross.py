"""What is said of a corpus that was left out comes from what has learnt nothing of its emotions."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoint
import cross
from data import DataError, load
from model import BACKGROUND, GatedConformer, Shape
from test_train import TINY, folder, settings  # noqa: F401  (folder is a fixture)
from train import Trainer

EIGHT = Shape(**TINY.to_dict() | {"blocks": 8})


@pytest.fixture
def tests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Some of the clips are test clips, one of ravdess of an unknown voice; listeners learn in small batches."""
    index = folder / "index.csv"
    lines = [line.replace(",train,", ",test_seen,") if "-1.wav" in line else line for line in index.read_text().splitlines()]
    lines = [line.replace(",train,", ",test_unseen,") if "ravdess-01u0-0.wav" in line else line for line in lines]
    index.write_text("\n".join(lines) + "\n")
    monkeypatch.setitem(cross.emotions.SETTINGS, "batch", (4, ""))
    return folder


def ears(data: Path) -> cross.Ears:
    table = load([data])
    torch.manual_seed(1)
    return cross.Ears(GatedConformer(EIGHT).eval(), table, table, 0.5)


def test_no_voice_of_the_corpus_is_learnt_from(folder: Path, tmp_path: Path):  # noqa: F811
    table = load([folder])
    mine = vars(settings(tmp_path / "run"))
    own = Trainer(table, TINY, argparse.Namespace(**mine | {"without": "ravdess"}))
    assert set(table.corpus[own.train_rows]) == {"emodb", "noise_fan"}
    for part, other in zip(own.parts, Trainer(table, TINY, argparse.Namespace(**mine)).parts, strict=True):
        assert part.epoch_steps == other.epoch_steps, "as many clips are learnt from"
        assert set(table.corpus[part.rows(0, 1)].ravel()) == {"emodb", "noise_fan"}
    with pytest.raises(DataError, match="no row is of nemo"):
        Trainer(table, TINY, argparse.Namespace(**mine | {"without": "nemo"}))


def test_listeners_learn_without_it_and_for_as_many_steps(tests: Path, monkeypatch: pytest.MonkeyPatch):
    own, learnt = ears(tests), []
    counts = {name: int((own.corpus == name).sum()) for name in ("emodb", "ravdess")}
    assert len(set(counts.values())) == 2, "they can be told apart"
    monkeypatch.setattr(cross.emotions, "learn", lambda body, clips, labels, weight, course, *rest: learnt.append((len(clips), len(labels), len(weight), course.epochs)))
    for corpus in ("", "emodb", "ravdess"):
        own.learnt(cross.SOUND, corpus, 1)
    whole = sum(counts.values())
    for (clips, *others, epochs), expected in zip(learnt, (whole, counts["ravdess"], counts["emodb"]), strict=True):
        assert {clips, *others} == {expected}
        assert abs(epochs * clips - cross.emotions.SETTINGS["sound_epochs"][0] * whole) <= clips / 2


def test_only_the_corpus_is_judged(tests: Path):
    """Clips say what they are told as: those of ravdess rightly, those of emodb wrongly."""

    class Echo(torch.nn.Module):
        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(clips[:, 0].long(), BACKGROUND).float()

    own = ears(tests)
    for split, (names, labels, _) in own.test.items():
        told = torch.from_numpy(np.where(names == "ravdess", labels, (labels + 1) % BACKGROUND))[:, None].float()
        own.test[split] = (names, labels, (told, told))
    for corpus, expected in (("ravdess", 100.0), ("emodb", 0.0)):
        for bodies in ({cross.SOUND: Echo()}, {cross.NETWORK: Echo(), cross.SOUND: Echo()}):
            for split in cross.TESTS:
                found = own.told(bodies, split, corpus)
                n = int((own.test[split][0] == corpus).sum())
                assert n and set(found.values()) == {(n, expected, expected)}
    assert own.told({cross.SOUND: Echo()}, "test_seen", "nemo") == {}


def run(at: Path, data: Path, without: str, **changes: object) -> Path:
    at.mkdir(exist_ok=True)
    torch.manual_seed(1)
    own = {"without": without, "opinion": 0.0, "finish_opinion": 0.0}
    content = {"shape": EIGHT.to_dict(), "average": GatedConformer(EIGHT).state_dict(), "step": 3, "steps": 3, "lap": 0, "before": {}, "master": "", "data_digest": cross.digest_of([data])}
    checkpoint.save(at / "last.pt", content | {name: value for name, value in changes.items() if name in content} | {"settings": own | {name: value for name, value in changes.items() if name not in content}})
    return at


@pytest.mark.parametrize(
    "change, told",
    [
        ({"opinion": 1.0}, "opinions of judges"),
        ({"finish_opinion": 0.5}, "opinions of judges"),
        ({"lap": 1}, "weights of another run"),
        ({"before": {"voices": ["emodb"]}}, "weights of another run"),
        ({"master": "digest"}, "imitates one"),
        ({"step": 2}, "at step 2 of 3"),
        ({"data_digest": "other"}, "other rows"),
    ],
)
def test_a_run_that_may_know_the_corpus_is_refused(tests: Path, tmp_path: Path, change: dict, told: str):
    assert cross.run_of(run(tmp_path / "clean", tests, "emodb"), [tests])["settings"]["without"] == "emodb"
    cross.run_of(run(tmp_path / "alone", tests, "emodb", opinion=1.0, teacher=0.0), [tests])
    with pytest.raises(SystemExit, match=told):
        cross.run_of(run(tmp_path / "run", tests, "emodb", **change), [tests])


def test_a_table_is_printed(tests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    runs = [run(tmp_path / f"without-{seed}", tests, "emodb", seed=seed) for seed in (1, 2)]
    whole = [run(tmp_path / f"whole-{seed}", tests, "", seed=seed) for seed in (1, 2)]

    def arguments(runs: list[Path], whole: list[Path]) -> None:
        monkeypatch.setattr(sys, "argv", [str(word) for word in ("cross.py", tests, "--test", tests, "--runs", *runs, "--whole", *whole)])

    arguments(runs, whole)
    cross.main()
    told = capsys.readouterr().out.splitlines()
    rows = [line for line in told if line.startswith("| emodb, ")]
    assert [row.split(" | ")[0] for row in rows] == ["| emodb, the network", "| emodb, network and sound"] * 2
    assert all(row.count("|") == 6 and row.count(" ± ") == 4 for row in rows)
    assert told[-2:] == ["clips learnt from, without emodb: 384, 384", "clips learnt from, all: 384, 384"]
    arguments(runs, runs[:1])
    with pytest.raises(SystemExit, match="--whole none"):
        cross.main()
