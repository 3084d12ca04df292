"""The exported graph answers as PyTorch does, whichever modules run."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cost import costs, picture
from export import GROUPS, build, sealed
from graph import lift_weights, store_small
from model import GatedConformer, Shape

SMALL = Shape(blocks=16, width=24, heads=2, kernel=7, context=5, stem=8, dropout=0.0, emotions=8, sound=8, picture=2)


def network(shape: Shape, seed: int, opens: float) -> GatedConformer:
    """Random weights everywhere, gates that differ from input to input."""
    torch.manual_seed(seed)
    model = GatedConformer(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for block in model.blocks:
            block.gate.weight.normal_(std=0.3)
            block.gate.bias.fill_(opens)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "stem.mean", "network.mean", "sound.mean", "picture.mean")):
                buffer.normal_()
            elif name.endswith(("running_var", "stem.scale", "network.scale", "sound.scale", "picture.scale")):
                buffer.uniform_(0.5, 2.0)
    return model.eval()


def session(model: GatedConformer, gated: bool = True, groups: tuple = GROUPS) -> onnxruntime.InferenceSession:
    onnx_model = build(model, gated, groups)
    return onnxruntime.InferenceSession(onnx_model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("opens, groups", [(-0.5, GROUPS), (0.0, GROUPS), (0.5, (1,)), (-1.0, (8,)), (0.0, (1, 1, 2))])
@pytest.mark.parametrize("blocks", [16, 12])
def test_both_branches_match_pytorch(threshold: float, opens: float, groups: tuple, blocks: int):
    """12 blocks: the last turn is cut short."""
    model = network(Shape(**SMALL.to_dict() | {"blocks": blocks}), 1, opens)
    runner = session(model, groups=groups)
    ran = set()
    for seed in range(6):
        features = 20.0 * torch.randn(1, 80, 360, generator=torch.Generator().manual_seed(seed)) - 40.0
        with torch.no_grad():
            # P(execute) of 0 is not above a threshold of 0 in PyTorch; in ONNX all modules run then.
            expected = model(features, threshold if threshold > 0.0 else -1.0)
        limit = np.array(threshold, np.float32)
        logits, speech, p, executed, judged = runner.run(None, {"features": features.numpy(), "gate_threshold": limit})
        assert np.abs(logits - expected.logits.numpy()).max() < 1e-4
        assert np.abs(speech - expected.speech.numpy()).max() < 1e-4
        assert np.abs(p - expected.p_execute.numpy()[0]).max() < 1e-5
        assert executed.dtype == np.uint8 and (executed == expected.executed.numpy()[0]).all()
        assert judged.dtype == np.uint8 and judged == expected.judged.numpy()[0]
        ran |= set(executed.tolist())
    assert ran == ({1} if threshold == 0.0 else {0} if threshold == 1.0 else {0, 1})


def test_the_full_size_has_the_contracts_shapes():
    model = network(Shape(emotions=64), 2, 0.0)
    outputs = {o.name: (o.type, o.shape) for o in session(model).get_outputs()}
    assert outputs == {
        "logits": ("tensor(float)", [1, 7]),
        "speech": ("tensor(float)", [1, 90]),
        "p_execute": ("tensor(float)", [64]),
        "executed": ("tensor(uint8)", [64]),
        "emotion_judged": ("tensor(uint8)", []),
    }
    head = sum(p.numel() for p in model.emotions.parameters())
    assert 5.0e6 < sum(p.numel() for p in model.parameters()) - head < 6.0e6 and head < 1.0e6


def test_ungated_is_the_gated_network_with_all_modules():
    model = network(SMALL, 3, 0.0)
    inputs = {"features": np.random.default_rng(0).normal(size=(1, 80, 360)).astype(np.float32)}
    inputs["gate_threshold"] = np.array(0.0, np.float32)
    with_gates, without = session(model).run(None, inputs), session(model, gated=False).run(None, inputs)
    logits, speech, _, executed = range(4)  # without gates there is no P(execute)
    for index in (logits, speech, executed):
        assert np.allclose(with_gates[index], without[index], atol=1e-5)


def test_stored_weights_are_half_the_size_and_decide_alike():
    model = network(Shape(blocks=4), 5, 0.0)
    whole, half = build(model), build(model)
    store_small(half.graph)
    assert half.ByteSize() < 0.55 * whole.ByteSize()
    runners = [onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]) for m in (whole, half)]
    for seed in range(4):
        features = 20.0 * np.random.default_rng(seed).normal(size=(1, 80, 360)).astype(np.float32) - 40.0
        exact, rounded = (r.run(None, {"features": features, "gate_threshold": np.array(0.5, np.float32)}) for r in runners)
        assert np.abs(exact[0] - rounded[0]).max() < 0.05 * np.abs(exact[0]).max()
        assert (exact[3] == rounded[3]).all()


def branches(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return inner + [each for branch in inner for each in branches(branch)]


def test_weights_outside_of_branches_change_nothing_but_memory():
    """Resident memory is measured in the daemon (`make budget`); here: none but kernels is left inside, and the answers agree."""
    model = network(Shape(blocks=4), 6, 0.0)
    inside, outside = build(model), build(model)
    for each in (inside, outside):
        store_small(each.graph)
    lift_weights(outside.graph)
    kernels = {name for branch in branches(outside.graph) for node in branch.node if node.op_type == "Conv" for name in node.input[1:2]}
    large = {w.name for branch in branches(outside.graph) for w in branch.initializer if np.prod(w.dims) >= 2000}
    assert len(large) == 4 and large <= kernels, "those of the four convolution modules"
    assert sum(np.prod(w.dims) for w in outside.graph.initializer) > 0.9 * sum(p.numel() for p in model.parameters())
    runners = [onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]) for m in (inside, outside)]
    for seed in range(4):
        features = 20.0 * np.random.default_rng(seed).normal(size=(1, 80, 360)).astype(np.float32) - 40.0
        one, other = (r.run(None, {"features": features, "gate_threshold": np.array(0.5, np.float32)}) for r in runners)
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_kernels_over_time_are_what_onnx_runtime_lays_out_anew():
    """Constants of 32 bits in the graph of their convolution: else it takes its general, slow code."""
    model = build(network(Shape(blocks=4), 6, 0.0))
    store_small(model.graph)
    lift_weights(model.graph)
    convolutions = 0
    for graph in [model.graph, *branches(model.graph)]:
        own = {w.name: w.data_type for w in graph.initializer}
        for node in (node for node in graph.node if node.op_type == "Conv"):
            assert own[node.input[1]] == onnx.TensorProto.FLOAT
            convolutions += 1
    assert convolutions == 3 + 4, "of the stem, and of each block"


def test_costs_agree_with_a_count_of_products():
    """PyTorch's own counter sees the matrix products of a body (attention's included)."""
    from torch.utils.flop_counter import FlopCounterMode

    model = network(SMALL, 4, 0.0)
    x = torch.randn(1, SMALL.frames, SMALL.width)
    modules, stem, _ = costs(SMALL)
    for index in (0, 1):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.blocks[0].bodies[index](x)
        # Projecting the distances is done once, at export.
        extra = (2 * SMALL.frames - 1) * SMALL.width**2 if index == 1 else 0
        assert counter.get_total_flops() // 2 - extra == modules[index]
    assert stem < 0.05 * sum(costs(Shape())[0])
    full, always, none = costs(Shape())
    assert always / (sum(full) + always) < 0.02 and none == 0
    assert 0 < costs(Shape(emotions=64))[2] - picture(Shape().picture) < 0.006 * sum(full), "the emotion head, but for its largest part"


def test_a_window_whose_emotion_nobody_wants_keeps_the_class_heads_logits():
    model = network(SMALL, 1, 0.5)
    with torch.no_grad():
        model.heads.classes.bias[-1] = -20.0  # somebody speaks in all of them
    features = 20.0 * torch.randn(1, 80, 360, generator=torch.Generator().manual_seed(1)) - 40.0
    inputs = {"features": features.numpy(), "gate_threshold": np.array(0.5, np.float32)}
    runner = session(model)
    names = [output.name for output in runner.get_outputs()]
    default, wanted, unwanted = (
        dict(zip(names, runner.run(None, inputs | more), strict=True))
        for more in ({}, {"emotion": np.array(True)}, {"emotion": np.array(False)})
    )
    assert (default["emotion_judged"], wanted["emotion_judged"], unwanted["emotion_judged"]) == (1, 1, 0)
    assert all((default[name] == wanted[name]).all() for name in names), "who says nothing wants it"
    assert all((unwanted[name] == wanted[name]).all() for name in ("speech", "p_execute", "executed"))
    model.emotions = None
    with torch.no_grad():
        plain = model(features).logits.numpy()
    assert np.abs(unwanted["logits"] - plain).max() < 1e-4 < np.abs(wanted["logits"] - plain).max()


def test_with_a_threshold_of_0_the_emotion_head_runs_whoever_speaks(tmp_path):
    model = network(SMALL, 1, 0.5)
    with torch.no_grad():
        model.heads.classes.bias[-1] = 20.0  # nobody does
    features = np.full((1, 80, 360), -40.0, np.float32)
    ran, logits = [], []
    for threshold in (0.5, 0.0):
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / f"{threshold}")
        runner = onnxruntime.InferenceSession(build(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
        logits.append(runner.run(None, {"features": features, "gate_threshold": np.array(threshold, np.float32)})[0])
        with open(runner.end_profiling(), encoding="utf-8") as profile:
            kinds = [event.get("args", {}).get("op_name") for event in json.load(profile)]
        ran.append(kinds.count("LogSoftmax") > 0)  # nothing else has one
    assert ran == [False, True]
    model.emotions = None
    with torch.no_grad():
        plain = model(torch.from_numpy(features), -1.0).logits.numpy()
    assert np.abs(logits[1] - plain).max() < 1e-4, "it runs, and is not heeded"


def test_the_file_says_what_its_bytes_are():
    onnx_model = build(network(SMALL, 1, 0.0))
    data = sealed(onnx_model, lambda: onnx_model.metadata_props.add(key="version", value="0"))
    told = {each.key: each.value for each in onnx.load_from_string(data).metadata_props}
    length, digest = told["content_sha256"].split(":")
    assert int(length) > sum(w.ByteSize() for w in onnx_model.graph.initializer), "every weight is covered"
    assert hashlib.sha256(data[: int(length)]).hexdigest() == digest and told["version"] == "0"
