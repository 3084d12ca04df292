"""The variants that benchmarks compare are the network they claim to be."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import build, sealed
from graph import lift_weights, store_small
from model import Shape
from test_export import network
from variants import SHUT, forced, main, ungated

NARROW = Shape(width=24, heads=2, kernel=7, stem=8, dropout=0.0, emotions=8, sound=8, picture=2)
FEATURES = np.random.default_rng(0).normal(-40.0, 15.0, (1, 80, 360)).astype(np.float32)


def run(model: onnx.ModelProto, threshold: float = 0.5) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"features": FEATURES, "gate_threshold": np.array(threshold, np.float32)}
    return session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})


@pytest.mark.parametrize("shut", SHUT.values())
@pytest.mark.parametrize("shipped", [False, True])
def test_as_many_gates_are_shut_as_the_name_says(shut: int, shipped: bool):
    model = build(network(NARROW, 7, 0.0))
    if shipped:
        store_small(model.graph, least=64)
        lift_weights(model.graph, least=64)
    executed = run(forced(model, shut))[3]
    assert executed.size == 64 and executed.sum() == 64 - shut


def test_ungated_is_the_whole_network_without_conditions():
    model = network(NARROW, 8, 0.0)
    variant = ungated(build(model))
    kinds = [node.op_type for node in variant.graph.node]
    assert not {"Greater", "ReduceMax"} & set(kinds) and kinds.count("If") == 1
    assert next(node for node in variant.graph.node if node.op_type == "If").input[0] == "emotion"
    logits, speech, p, executed, judged = run(variant)
    with torch.no_grad():
        expected = model.forward_ungated(torch.from_numpy(FEATURES))
    assert np.abs(logits - expected.logits.numpy()).max() < 1e-3
    assert np.abs(speech - expected.speech.numpy()).max() < 1e-3
    assert (p == 1).all() and (executed == 1).all() and judged == 1


def test_no_variant_says_the_digest_of_what_it_was_made_from(tmp_path, monkeypatch):
    source = build(network(Shape(width=24, heads=2, kernel=7, stem=8, dropout=0.0), 1, 0.0))
    path = tmp_path / "model.onnx"
    path.write_bytes(sealed(source, lambda: source.metadata_props.add(key="version", value="0")))
    monkeypatch.setattr("sys.argv", ["variants.py", str(path), str(tmp_path / "variants")])
    main()
    files = list((tmp_path / "variants").iterdir())
    assert len(files) == 1 + len(SHUT)
    assert all([each.key for each in onnx.load(file).metadata_props] == ["version"] for file in files)
