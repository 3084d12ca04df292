"""The report draws whatever a run left, and the figures in it are those of its input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import checkpoint
import report
from model import LABELS
from test_train import TINY, folder, settings  # noqa: F401  (folder is a fixture)
from train import Trainer, train


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:  # noqa: F811
    torch.set_num_threads(1)
    out = tmp_path / "run"
    out.mkdir()
    train(Trainer(report.load([folder]), TINY, settings(out)), out)
    return out


def test_every_file_is_drawn(folder: Path, run: Path, tmp_path: Path, monkeypatch, capsys):  # noqa: F811
    counts = np.eye(len(LABELS), dtype=int).tolist()
    told = {"model": "0.0.0+test", "confusion": {"emodb": {"test_seen": counts}, "noise": {"test_seen": counts, "test_unseen": counts}}}
    (tmp_path / "evaluate.json").write_text(json.dumps(told))
    out = tmp_path / "report"
    monkeypatch.setattr("sys.argv", ["report.py", str(run), str(folder), "--out", str(out), "--final", str(tmp_path / "evaluate.json")])
    report.main()
    drawn = {path.name: path.read_text() for path in out.iterdir()}
    confusions = {f"confusion-{name}.svg" for name in ("validation", "test_seen", "test_unseen")}
    assert set(drawn) == {"training.svg", "gates.svg", "heatmap.svg", "threshold.svg"} | confusions
    assert all(text.startswith("<?xml") and len(text) < 200_000 for text in drawn.values())
    assert "0.0.0+test" in drawn["confusion-test_seen.svg"] and "14 clips" in drawn["confusion-test_seen.svg"]
    assert "background" in drawn["gates.svg"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(report.THRESHOLDS) and lines[2].startswith("| 0.02 |")
    assert all("validation speakers" in drawn[f"{name}.svg"] for name in ("training", "gates", "threshold", "confusion-validation"))

    content = checkpoint.load(run / "last.pt")
    checkpoint.save(run / "last.pt", content | {"settings": content["settings"] | {"everything": True}})
    report.main()
    told = capsys.readouterr()
    assert "has learnt from the validation speakers" in told.err and report.KNOWN in told.out
    drawn = {path.name: path.read_text() for path in out.iterdir()}
    assert not any("validation speakers" in text for text in drawn.values())
    assert all(report.KNOWN in drawn[f"{name}.svg"] for name in ("training", "gates", "threshold", "confusion-validation"))


def test_skipping_grows_with_the_threshold(folder: Path, run: Path):  # noqa: F811
    table = report.load([folder])
    model = checkpoint.network(checkpoint.load(run / "last.pt"))
    rows = table.rows("validation")
    shares = [report.point(t, table, rows, *report.answers(model, table, rows, t))["skipped_speech"] for t in (-1.0, 0.5, 1.0)]
    assert shares[0] == 0.0 and shares[2] == 1.0 and shares[0] <= shares[1] <= shares[2]
    counts = report.confusion(np.array([0, 0, 6]), np.array([0, 1, 6]))
    assert counts[0, 0] == counts[0, 1] == counts[6, 6] == 1 and counts.sum() == 3
