"""The exported graph and PyTorch come to the same figures on the committed feature set."""

import numpy as np
import onnx
import pytest

import checkpoint
import golden_parity
from cost import costs
from export import build
from graph import store_small
from model import GatedConformer, Shape
from test_export import network

# All 64 modules, as the figures count them, but narrow ones.
NARROW = Shape(width=24, heads=2, kernel=7, stem=8, dropout=0.0, emotions=8, sound=8, picture=2)


def numbers(tree) -> list[float]:
    return [x for value in tree.values() for x in numbers(value)] if isinstance(tree, dict) else [float(tree)]


@pytest.mark.parametrize("seed", [5, 6])
def test_the_exported_graph_gives_pytorchs_figures(seed: int):
    model, index, features = network(NARROW, seed, 0.0), golden_parity.rows(), golden_parity.features()
    assert features.shape == (len(index), 80, 360)
    ours = golden_parity.by_pytorch(model, features)
    theirs = golden_parity.by_onnx(build(model).SerializeToString(), features)
    assert np.abs(ours.logits - theirs.logits).max() < 1e-3
    ran = ours.executed.mean()
    assert 0.05 < ran < 0.95, "both branches are taken"
    expected, found = (numbers(golden_parity.figures(index, a, *costs(NARROW))) for a in (ours, theirs))
    assert np.allclose(expected, found, atol=1e-3)


def test_pytorch_with_the_stored_weights_gives_the_stored_graphs_answers():
    model, features = network(NARROW, 9, 0.0), golden_parity.features()[:8]
    stored = build(model)
    least = 110  # every weight of a narrow network, no bias
    store_small(stored.graph, least)
    theirs = golden_parity.by_onnx(stored.SerializeToString(), features)
    exact = golden_parity.by_pytorch(model, features).logits
    ours = golden_parity.by_pytorch(golden_parity.as_stored(model, least), features)
    assert np.abs(ours.logits - theirs.logits).max() < 2e-5 < np.abs(exact - theirs.logits).max()
    assert (ours.executed == theirs.executed).all()


def test_a_segment_begins_where_eight_frames_in_a_row_say_so():
    """As the cascade has it (evidence.rs): the mean logit, no frame counting for more than 12."""
    surest = np.log(0.99 / 0.01)
    speech = np.full((6, 90), -1.0)
    speech[0, 82:] = surest + 1e-6
    speech[1, :8] = surest - 1e-3
    speech[2, :7] = surest + 0.1
    speech[3, ::2] = 9.0  # many frames, but none in a row
    speech[4, 3:6] = 100.0  # three at 12 and five at -1 are a mean of 3.9
    speech[5, 3:7] = 12.0  # four: 5.5
    assert golden_parity.opens(speech.astype(np.float32)).tolist() == [True, False, False, False, False, True]


def test_a_checkpoint_without_the_files_head_is_refused(tmp_path, monkeypatch):
    bare = Shape(width=24, heads=2, kernel=7, stem=8)
    checkpoint.save(tmp_path / "last.pt", {"shape": bare.to_dict(), "average": GatedConformer(bare).state_dict()})
    exported = build(network(NARROW, 5, 0.0))
    exported.metadata_props.add(key="macs_emotion", value=str(costs(NARROW)[2]))
    onnx.save(exported, tmp_path / "model.onnx")
    monkeypatch.setattr("sys.argv", ["golden_parity.py", str(tmp_path / "last.pt"), str(tmp_path / "model.onnx")])
    with pytest.raises(SystemExit, match="no emotion head"):
        golden_parity.main()


def test_the_figures_of_a_known_case():
    index = [{"emotion": e, "corpus": c, "split": "test_seen"} for e, c in (("happy", "a"), ("happy", "a"), ("sad", "a"), ("background", "n"))]
    logits = np.eye(7)[[1, 5, 5, 6]]
    executed = np.array([[1, 1], [1, 0], [1, 0], [0, 0]])
    speech = np.full((4, 90), -1.0)
    speech[3, 40:48] = 4.6
    answers = golden_parity.Answers(logits, speech, executed, judged=np.array([1, 1, 0, 0]))
    found = golden_parity.figures(index, answers, [30, 10], 10, 50)
    group = found["corpora"]["a"]["test_seen"]
    assert group["n"] == 3 and group["accuracy"] == pytest.approx(2 / 3) and group["uar"] == pytest.approx(0.75)
    assert found["skipped"]["happy"] == 0.25 and found["skip_increase"] == pytest.approx(1 - 1 / 3)
    assert found["macs_ratio"] == {"speech": pytest.approx((1 + 0.9 + 0.4) / 3), "background": pytest.approx(0.1)}
    assert found["background_as_speech"] == 0.0 and found["background_opens_segment"] == 1.0
