"""Gated and ungated runs are judged by the same listeners, and compared seed by seed."""

import sys
from pathlib import Path

import pytest
import torch

import checkpoint
import gap
from model import GatedConformer, Shape
from test_train import TINY, folder  # noqa: F401  (folder is a fixture)


def run(at: Path, seed: int, ungated: bool) -> Path:
    at.mkdir()
    torch.manual_seed(seed)
    shape = Shape(**TINY.to_dict() | {"blocks": 8})
    content = {"shape": shape.to_dict(), "average": GatedConformer(shape).state_dict(), "step": 5}
    checkpoint.save(at / "last.pt", content | {"settings": {"seed": seed, "ungated": ungated, "rate": 1e-3}})
    return at


def told(monkeypatch: pytest.MonkeyPatch, folder: Path, gated: list[Path], ungated: list[Path]) -> None:  # noqa: F811
    arguments = ["gap.py", folder, "--test", folder, "--gated", *gated, "--ungated", *ungated]
    monkeypatch.setattr(sys, "argv", [str(word) for word in arguments])
    gap.main()


def test_runs_are_compared_seed_by_seed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):  # noqa: F811
    index = folder / "index.csv"
    lines = index.read_text().splitlines()
    seen = [line.replace(",train,", ",test_seen,") if "ravdess" in line and ",fear," in line else line for line in lines]
    seen.append("")
    index.write_text("\n".join(seen))
    monkeypatch.setattr(gap, "VALIDATIONS", ("validation",))
    monkeypatch.setitem(gap.emotions.SETTINGS, "batch", (8, ""))
    gated, ungated = ([run(tmp_path / f"{name}-{seed}", seed, name == "ungated") for seed in (1, 2)] for name in ("gated", "ungated"))
    told(monkeypatch, folder, gated, ungated)
    first = capsys.readouterr().out
    assert first.count("|\n") == 2 + 2 * (1 + 2 + 1) + 2 + 4 and " ± " in first
    assert "| emodb, unseen |" in first and "| modules skipped, speech, seen |" in first
    assert all((at / "gap.json").exists() for at in gated + ungated)
    monkeypatch.setattr(gap, "judged", lambda *_: pytest.fail("judged again"))
    told(monkeypatch, folder, gated, ungated)
    assert capsys.readouterr().out == first
    with pytest.raises(SystemExit, match="was trained without gates"):
        told(monkeypatch, folder, ungated, ungated)
    with pytest.raises(SystemExit, match="not of one recipe and seed: seed"):
        told(monkeypatch, folder, gated, ungated[::-1])
    content = checkpoint.load(gated[0] / "last.pt")
    checkpoint.save(gated[0] / "last.pt", content | {"average": GatedConformer(Shape(**content["shape"])).state_dict()})
    with pytest.raises(pytest.fail.Exception, match="judged again"):
        told(monkeypatch, folder, gated, ungated)


def test_means_are_over_corpora_and_differences_within_a_seed():
    def found(a: float, b: float) -> dict:
        splits, judges = (*gap.VALIDATIONS, *gap.TESTS), ("network", "mixed")
        accuracy = {split: {judge: {"emodb": a, "nemo": b} for judge in judges} for split in splits}
        right = {split: {judge: {name: "1" * of + "0" * (100 - of) for name, of in (("emodb", a), ("nemo", b))} for judge in judges} for split in splits}
        return {"accuracy": accuracy, "right": right}

    lines = gap.table_of([found(80, 60), found(70, 60)], [found(70, 66), found(60, 64)])
    assert "| test unseen, mixed | 67.5 ± 3.5 | 65.0 ± 4.2 | +2.5 ± 0.7 | +2.0, +3.0 | 1.4 |" in lines
    assert lines[-1] == "| both test splits, mixed | | | +2.5 ± 0.7 | +2.0, +3.0 | 1.0 |"


def test_the_error_of_clips_is_that_of_their_differences():
    runs = [[{"right": {"test_seen": {"network": {"emodb": "1100", "nemo": of}}}}] for of in ("1111", "0110")]
    assert gap.error(*runs, ("test_seen",), "network") == pytest.approx(100 * (1 / 3 / 4) ** 0.5 / 2)
