#!/usr/bin/env python3
"""Export a checkpoint as the one ONNX file that the daemon runs.

    export.py RUN/last.pt models/undertone.onnx

Each gated module becomes an `If` whose taken branch holds the module with its weights; the
other branch hands its input through, so a skipped module is not computed at all. A gate is
kept lean: the time mean and the projection are one product each, and a single comparison
with log(t / (1 - t)), computed once from the threshold t, decides. P(execute) is one sigmoid
over all 64 logits at the end. What is constant is folded: BatchNorm, projected positions,
scales and half-steps.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

import checkpoint
from cost import costs
from graph import IR_VERSION, OPSET, Graph
from model import LABELS, ROWS, STRIDE, GatedConformer
from modules import Attention, Convolution, FeedForward

CONTRACT = "undertone/1"


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def feed_forward(g: Graph, x: str, body: FeedForward, shape) -> str:
    hidden = g.silu(g.linear(g.layer_norm(x, body.norm), array(body.up.weight), array(body.up.bias)))
    update = g.linear(hidden, 0.5 * array(body.down.weight), 0.5 * array(body.down.bias))
    return g.op("Add", x, update)


def attention(g: Graph, x: str, body: Attention, shape) -> str:
    frames, heads, width = shape.frames, shape.heads, shape.width // shape.heads
    weight, bias = array(body.qkv.weight).copy(), array(body.qkv.bias).copy()
    weight[: shape.width] *= width**-0.5
    bias[: shape.width] *= width**-0.5
    qkv = g.linear(g.layer_norm(x, body.norm), weight, bias)
    split = g.op("Reshape", qkv, g.integers(frames, 3, heads, width))
    stacked = g.op("Transpose", split, perm=[1, 2, 0, 3])  # [3, heads, T, d/heads]
    q, k, v = (g.op("Gather", stacked, g.constant(i, np.int64), axis=0) for i in range(3))
    content = g.op(
        "MatMul", g.op("Add", q, g.constant(array(body.content_bias))), g.op("Transpose", k, perm=[0, 2, 1])
    )
    distance = g.op(
        "MatMul", g.op("Add", q, g.constant(array(body.position_bias))), g.constant(array(body.positions()))
    )
    # Row i of [T, 2T-1] holds distances T-1-i...: reading it with a stride one shorter lines them up.
    flat = g.op("Reshape", distance, g.integers(heads, frames * (2 * frames - 1)))
    begin = frames - 1
    cut = g.op("Slice", flat, g.integers(begin), g.integers(begin + frames * (2 * frames - 2)), g.integers(1))
    rows = g.op("Reshape", cut, g.integers(heads, frames, 2 * frames - 2))
    skewed = g.op("Slice", rows, g.integers(0), g.integers(frames), g.integers(2))
    weights = g.op("Softmax", g.op("Add", content, skewed), axis=-1)
    heard = g.op("Transpose", g.op("MatMul", weights, v), perm=[1, 0, 2])
    merged = g.op("Reshape", heard, g.integers(frames, shape.width))
    return g.op("Add", x, g.linear(merged, array(body.out.weight), array(body.out.bias)))


def convolution(g: Graph, x: str, body: Convolution, shape) -> str:
    norm = body.batch_norm
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    kernel = array(body.depthwise) * scale[:, None]
    bias = array(norm.bias) - array(norm.running_mean) * scale
    expanded = g.linear(g.layer_norm(x, body.norm), array(body.expand.weight), array(body.expand.bias))
    value, gate = g.op("Split", expanded, outputs=2, axis=1, num_outputs=2)
    glu = g.op("Mul", value, g.op("Sigmoid", gate))
    channels = g.op("Unsqueeze", g.op("Transpose", glu, perm=[1, 0]), g.integers(0))
    filtered = g.op(
        "Conv", channels, g.constant(kernel[:, None, :]), g.constant(bias),
        group=shape.width, kernel_shape=[shape.kernel], pads=[shape.kernel // 2] * 2,
    )  # fmt: skip
    frames = g.op("Transpose", g.op("Squeeze", g.silu(filtered), g.integers(0)), perm=[1, 0])
    return g.op("Add", x, g.linear(frames, array(body.project.weight), array(body.project.bias)))


WRITERS = {FeedForward: feed_forward, Attention: attention, Convolution: convolution}


def statistics(g: Graph, x: str, over: str) -> str:
    """Mean and spread over time of x [T, d], [1, 2d]."""
    mean = g.op("MatMul", over, x)
    centred = g.op("Sub", x, mean)
    variance = g.op("MatMul", over, g.op("Mul", centred, centred))
    spread = g.op("Sqrt", g.op("Add", variance, g.constant(1e-5)))
    return g.op("Concat", mean, spread, axis=1)


def build(model: GatedConformer, gated: bool = True) -> onnx.ModelProto:
    """The network as ONNX; with `gated` false the bodies stand in line, without any gate."""
    shape, g = model.shape, Graph()
    stem = model.stem
    x = g.op("Sub", "features", g.constant(array(stem.mean)[None]))
    first = array(stem.first.weight) * array(stem.scale)[None, :, :]
    for weight, bias in ((first, array(stem.first.bias)), (array(stem.second.weight), array(stem.second.bias))):
        kernel = weight.shape[2]
        x = g.op(
            "Conv", x, g.constant(weight), g.constant(bias), kernel_shape=[kernel], strides=[2], pads=[kernel // 2] * 2
        )
        x = g.silu(x)
    x = g.op("Transpose", g.op("Squeeze", x, g.integers(0)), perm=[1, 0])
    over = g.constant(np.full((1, shape.frames), 1.0 / shape.frames))
    from_stem = statistics(g, x, over)
    odds = g.op("Sub", g.op("Log", "gate_threshold"), g.op("Log", g.op("Sub", g.constant(1.0), "gate_threshold")))
    logits: list[str] = []
    for b, block in enumerate(model.blocks):
        for m, module in enumerate(block.modules_):
            write = WRITERS[type(module.body)]
            weight, bias = array(module.gate.weight), array(module.gate.bias)
            mean = g.op("MatMul", over, x)
            logit = g.op("Gemm", mean, g.constant((weight[1] - weight[0])[:, None]), g.constant([bias[1] - bias[0]]))
            logits.append(logit)
            if not gated:
                x = write(g, x, module.body, shape)
                continue
            run, skip = Graph(f"b{b}m{m}_"), Graph(f"b{b}m{m}_skip_")
            size = [shape.frames, shape.width]
            taken = run.branch(f"run_{b}_{m}", write(run, x, module.body, shape), size)
            passed = skip.branch(f"skip_{b}_{m}", skip.op("Identity", x), size)
            condition = g.op("Greater", logit, odds)
            x = g.op("If", condition, then_branch=taken, else_branch=passed)
        x = g.layer_norm(x, block.norm)
    pooled = g.op("Concat", statistics(g, x, over), from_stem, axis=1)
    hidden = g.silu(g.linear(pooled, array(model.classes[0].weight), array(model.classes[0].bias)))
    last = model.classes[-1]
    g.op("Gemm", hidden, g.constant(array(last.weight).T), g.constant(array(last.bias)), to="logits")
    speech = g.linear(x, array(model.speech.weight), array(model.speech.bias))
    g.op("Transpose", speech, perm=[1, 0], to="speech")
    modules = 4 * shape.blocks
    every = g.op("Reshape", g.op("Concat", *logits, axis=0), g.integers(modules))
    g.op("Sigmoid", every, to="p_execute")
    decided = g.op("Greater", every, odds)
    g.nodes.append(helper.make_node("Cast", [decided], ["executed"], to=TensorProto.UINT8))
    value = helper.make_tensor_value_info
    inputs = [
        value("features", TensorProto.FLOAT, [1, ROWS, shape.frames * STRIDE]),
        value("gate_threshold", TensorProto.FLOAT, []),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, [1, len(LABELS)]),
        value("speech", TensorProto.FLOAT, [1, shape.frames]),
        value("p_execute", TensorProto.FLOAT, [modules]),
        value("executed", TensorProto.UINT8, [modules]),
    ]
    graph = helper.make_graph(g.nodes, "undertone", inputs, outputs, g.weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="undertone"
    )


def describe(onnx_model: onnx.ModelProto, model: GatedConformer, content: dict, release: str) -> None:
    """Metadata: what the reader of the file must know."""
    weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
    modules, stem = costs(model.shape)
    data = {"index_sha256": content["data_digest"], "corpora": "EMO-DB, RAVDESS, nEMO and household noise, train split"}
    for key, text in {
        "contract": CONTRACT,
        "labels": json.dumps(list(LABELS)),
        "features": json.dumps(content["features"]),
        "macs_modules": json.dumps(modules),
        "macs_stem": str(stem),
        "training_data": json.dumps(data),
        "version": f"{release}+{weights[:8]}",
        "licence": "CC BY-NC-SA 4.0: RAVDESS and nEMO, which the weights were trained on, are non-commercial",
    }.items():
        onnx_model.metadata_props.add(key=key, value=text)


def export(source: Path, target: Path, release: str) -> None:
    content = checkpoint.load(source)
    model = checkpoint.network(content)
    onnx_model = build(model)
    describe(onnx_model, model, content, release)
    onnx.checker.check_model(onnx_model, full_check=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx_model, target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--release", default="0.1.0", help="first part of the version (default: %(default)s)")
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.onnx, arguments.release)


if __name__ == "__main__":
    main()
