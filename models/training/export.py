#!/usr/bin/env python3
"""Export a checkpoint as the one ONNX file that the daemon runs.

    export.py RUN/final.pt models/undertone.onnx

Each gated module becomes an `If` whose taken branch holds the module; its large weights lie outside
(see `graph.lift_weights`; kernels over time stay inside). The other branch hands its input through, so a skipped module is not computed at all.

The gates of a block look at the summary of its input (mean, spread and maximum over time),
which only changes when a block has run. So one product gives the logits of all gates that are still
to be asked, and an `If` passes many blocks by when none of theirs would open:
exactly what asking block after block would have done. P(execute) is one sigmoid over all
logits at the end. What is constant is folded: BatchNorm, projected positions, scales and
half-steps. Convolutions over time are written as those of images one pixel high, for which ONNX Runtime has
better code.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import checkpoint
from cost import costs
from export_heads import asking, emotions_of, heads_of, somebody
from graph import EXACT, IR_VERSION, OPSET, Graph, array, lift_weights, store_small
from model import DEPTH, LABELS, MODULES, ROWS, SPEECH_FRAMES, STRIDE, WINDOWS, GatedConformer, Shape
from modules import Attention, Convolution, FeedForward

CONTRACT = "undertone/1"
FRAMES = WINDOWS // STRIDE
RELEASE = "0.8.1"  # of the recipe: what `make train` makes is named so
SMALL_BLOCKS = 4  # the last ones, which run the least
# What `undertone evaluate` knows, by name (models/EVALUATE.md), and which of it forbids commercial use.
CORPORA = {"emodb": "EMO-DB", "ravdess": "RAVDESS", "nemo": "nEMO", "cremad": "CREMA-D"}
NON_COMMERCIAL = ("RAVDESS", "nEMO")
# How many blocks each outer `If` holds, in turns; of one, its own is enough. Of the released network background nearly always runs one
# module, of block 8, which is the first of its turn.
GROUPS = (1, 7)
GATES = f"{EXACT}_gates"  # how their weights are named


def feed_forward(g: Graph, x: str, body: FeedForward, shape, small: bool) -> str:
    linear = g.linear_small if small else g.linear
    hidden = g.silu(linear(g.layer_norm(x, body.norm), array(body.up.weight), array(body.up.bias)))
    update = linear(hidden, 0.5 * array(body.down.weight), 0.5 * array(body.down.bias))
    return g.op("Add", x, update)


def attention(g: Graph, x: str, body: Attention, shape, small: bool) -> str:
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
        "MatMul", g.op("Add", q, g.constant(array(body.position_bias))), g.constant(array(body.positions(frames)))
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


def convolution(g: Graph, x: str, body: Convolution, shape, small: bool) -> str:
    norm = body.batch_norm
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    kernel = array(body.depthwise) * scale[:, None]
    bias = array(norm.bias) - array(norm.running_mean) * scale
    expanded = g.linear(g.layer_norm(x, body.norm), array(body.expand.weight), array(body.expand.bias))
    value, gate = g.op("Split", expanded, outputs=2, axis=1, num_outputs=2)
    glu = g.op("Mul", value, g.op("Sigmoid", gate))
    channels = g.op("Unsqueeze", g.op("Transpose", glu, perm=[1, 0]), g.integers(0, 2))
    filtered = g.silu(g.convolved(channels, kernel[:, None], bias, shape.kernel // 2, group=shape.width))
    frames = g.op("Transpose", g.op("Squeeze", filtered, g.integers(0, 2)), perm=[1, 0])
    return g.op("Add", x, g.linear(frames, array(body.project.weight), array(body.project.bias)))


def stored_small(index: int, shape) -> bool:
    """Whether the feed-forwards of this block are stored in 8 bits: it is room for the emotion head (EXPERIMENTS.md says what 8 bits change)."""
    return index >= shape.blocks - SMALL_BLOCKS


WRITERS = {FeedForward: feed_forward, Attention: attention, Convolution: convolution}


def summary(g: Graph, x: str, over: str) -> tuple[str, str, str]:
    """x [T, d] -> over time the mean, the spread times the root of T, and the maximum, each [1, d]."""
    mean = g.op("MatMul", over, x)
    spread = g.op("ReduceL2", g.op("Sub", x, mean), g.integers(0), keepdims=1)
    return mean, spread, g.op("ReduceMax", x, g.integers(0), keepdims=1)


def pooled_of(g: Graph, x: str, over: str) -> str:
    """x [T, d] -> its summary [1, 3d], which gates look at."""
    return g.op("Concat", *summary(g, x, over), axis=1)


def gates_of(blocks: list) -> tuple[np.ndarray, np.ndarray]:
    """Weights [4n, 3d] and biases [4n] of these blocks' gates, for a spread that is not divided by the root of T yet."""
    weight = np.concatenate([array(block.gate.weight) for block in blocks])
    weight[:, weight.shape[1] // 3 : 2 * weight.shape[1] // 3] /= FRAMES**0.5
    return weight, np.concatenate([array(block.gate.bias) for block in blocks])


@dataclass
class Gates:
    """The blocks, and what their gates are asked with (names of values of the outermost graph)."""

    blocks: list
    shape: Shape
    over: str  # [1, T]: a product with it is the mean over time
    odds: str  # a gate opens whose logit is above it
    weight: str  # [4n, 3d], of all gates
    bias: str  # [4n]

    def ask(self, g: Graph, pooled: str, first: int) -> str:
        """The logits of the gates from block `first` on, [1, 4 (n - first)]. The others are computed and dropped: that is
        less than to cut the weight."""
        logits = g.op("Gemm", pooled, self.weight, self.bias, transB=1)
        return logits if first == 0 else parted(g, logits, first, len(self.blocks))[1]

    def opens(self, g: Graph, logits: str) -> str:
        """Whether any of these does."""
        return g.op("Greater", g.op("ReduceMax", logits, keepdims=0), self.odds)


def parted(g: Graph, logits: str, count: int, blocks: int) -> tuple[str, str | None]:
    """The logits of `blocks` blocks -> those of the first `count`, and those of the others."""
    if count == blocks:
        return logits, None
    return tuple(g.op("Split", logits, g.integers(4 * count, 4 * (blocks - count)), outputs=2, axis=1))


def choice(g: Graph, name: str, condition: str, run: Graph, done: list, before: list, sizes: list) -> list[str]:
    """An `If`: what `run` has done, or what there was before."""
    idle = Graph(f"{run.prefix}i")
    taken = run.branch(f"run_{name}", done, sizes)
    passed = idle.branch(f"skip_{name}", [idle.op("Identity", value) for value in before], sizes)
    outputs = g.op("If", condition, outputs=len(done), then_branch=taken, else_branch=passed)
    return [outputs] if len(done) == 1 else outputs


def block_behind(g: Graph, x: str, logits: str, index: int, gates: Gates) -> tuple[str, str, str | None]:
    """Block `index` behind an `If`: x [T, d] and the logits from this block on -> x, its own logits, those of the blocks after it."""
    left = len(gates.blocks) - index - 1
    own, rest = parted(g, logits, 1, left + 1)
    run = Graph(f"{g.prefix}b{index}_")
    done, before, sizes = [four_modules(run, x, own, index, gates)], [x], [[gates.shape.frames, gates.shape.width]]
    if left:  # the gates after it look at another x now
        done.append(gates.ask(run, pooled_of(run, done[0], gates.over), index + 1))
        before.append(rest)
        sizes.append([1, 4 * left])
    x, *rest = choice(g, f"b{index}", gates.opens(g, own), run, done, before, sizes)
    return x, own, rest[0] if rest else None


def four_modules(g: Graph, x: str, logits: str, index: int, gates: Gates) -> str:
    """The four modules of block `index`, each run or passed by: x [T, d] -> x."""
    shape, name = gates.shape, f"b{index}"
    opens = g.op("Split", g.op("Greater", logits, gates.odds), outputs=4, axis=1, num_outputs=4)
    for number, kind, condition, body in zip("ABCD", MODULES, opens, gates.blocks[index].bodies, strict=True):
        run = Graph(f"{name}{number}")  # short names: there are thousands in the file
        after = WRITERS[type(body)](run, x, body, shape, stored_small(index, shape))
        (x,) = choice(g, f"{name}_{kind}", condition, run, [after], [x], [[shape.frames, shape.width]])
    return x


def group_behind(g: Graph, x: str, logits: str, first: int, count: int, gates: Gates) -> tuple[str, str, str | None]:
    """`count` blocks behind an `If`: x [T, d] and the logits from block `first` on -> x, the logits as each of their gates was
    asked, those of the blocks after them."""
    if count == 1:
        return block_behind(g, x, logits, first, gates)
    left = len(gates.blocks) - first - count
    own, rest = parted(g, logits, count, left + count)
    name = f"b{first}n{count}"
    run, asked, now, after = Graph(f"{g.prefix}{name}_"), [], x, logits
    for index in range(first, first + count):
        now, each, after = block_behind(run, now, after, index, gates)
        asked.append(each)
    done, before = [now, run.op("Concat", *asked, axis=1)], [x, own]
    sizes = [[gates.shape.frames, gates.shape.width], [1, 4 * count]]
    if left:
        done, before, sizes = [*done, after], [*before, rest], [*sizes, [1, 4 * left]]
    x, asked, *rest = choice(g, name, gates.opens(g, own), run, done, before, sizes)
    return x, asked, rest[0] if rest else None


def stem_of(g: Graph, stem, shape) -> str:
    x = g.op("Unsqueeze", g.op("Sub", "features", g.constant(array(stem.mean)[None])), g.integers(2))
    first = array(stem.first.weight) * array(stem.scale)[None, :, :]
    for layer, weight in ((stem.first, first), (stem.second, array(stem.second.weight))):
        x = g.silu(g.convolved(x, weight, array(layer.bias), layer.padding[0], stride=layer.stride[0]))
    context = stem.context
    around = g.convolved(x, array(context.weight), array(context.bias), shape.context // 2, group=shape.width)

    def by_frame(channels: str) -> str:
        return g.op("Transpose", g.op("Squeeze", channels, g.integers(0, 2)), perm=[1, 0])

    mixed = g.linear(by_frame(g.silu(around)), array(stem.mix.weight), array(stem.mix.bias))
    return g.layer_norm(g.op("Add", by_frame(x), mixed), stem.norm)


def build(model: GatedConformer, gated: bool = True, groups: tuple = GROUPS) -> onnx.ModelProto:
    """The network as ONNX; `groups`: how many blocks each outer `If` holds, in turns. With `gated` false the bodies stand in line, without any gate."""
    shape, g = model.shape, Graph()
    x = stem_of(g, model.stem, shape)
    over = g.constant(np.full((1, shape.frames), 1.0 / shape.frames))
    mean, spread, most = summary(g, x, over)
    pooled = g.op("Concat", mean, spread, most, axis=1)
    stem = g.op("Concat", mean, g.op("Mul", spread, g.constant(FRAMES**-0.5)), axis=1)
    odds = g.op("Sub", g.op("Log", "gate_threshold"), g.op("Log", g.op("Sub", g.constant(1.0), "gate_threshold")))
    modules, depths = len(MODULES) * shape.blocks, [x]
    if gated:
        assert DEPTH % sum(groups) == 0, "a turn ends where the emotion is listened for"
        weight, bias = gates_of(list(model.blocks))
        gates = Gates(list(model.blocks), shape, over, odds, g.constant(weight, what=GATES), g.constant(bias, what=GATES))
        left, logits, start = gates.ask(g, pooled, 0), [], 0
        for count in cycle(groups):
            count = min(count, shape.blocks - start)
            x, asked, left = group_behind(g, x, left, start, count, gates)
            logits.append(asked)
            start += count
            depths += [x] * (start % DEPTH == 0)
            if start == shape.blocks:
                break
        every = g.op("Reshape", g.op("Concat", *logits, axis=1), g.integers(modules))
        g.op("Sigmoid", every, to="p_execute")
        g.nodes.append(helper.make_node("Cast", [g.op("Greater", every, odds)], ["executed"], to=TensorProto.UINT8))
    else:
        for index, block in enumerate(model.blocks):
            for body in block.bodies:
                x = WRITERS[type(body)](g, x, body, shape, stored_small(index, shape))
            depths += [x] * ((index + 1) % DEPTH == 0)
        g.op("Identity", g.constant(np.ones(modules)), to="p_execute")
        g.op("Identity", g.constant(np.ones(modules), np.uint8), to="executed")
    classes, speech = heads_of(g, model.heads, x, stem)
    if model.emotions and gated:
        last = g.op("Slice", g.op("Concat", *logits, axis=1), g.integers(-DEPTH * len(MODULES)), g.integers(modules), g.integers(1))
        reached = g.op("Greater", g.op("ReduceMax", last, keepdims=1), odds)
        classes, judged = asking(g, reached, model.emotions, depths, speech, classes, shape.frames)
    elif model.emotions:
        classes, judged = emotions_of(g, model.emotions, depths, speech, somebody(g, classes), shape.frames), "emotion"
    else:
        judged = g.constant(False, bool)
    g.op("Identity", classes, to="logits")
    g.nodes.append(helper.make_node("Cast", [g.op("Reshape", judged, g.integers())], ["emotion_judged"], to=TensorProto.UINT8))
    value = helper.make_tensor_value_info
    inputs = [
        value("features", TensorProto.FLOAT, [1, ROWS, shape.frames * STRIDE]),
        value("gate_threshold", TensorProto.FLOAT, []),
        value("emotion", TensorProto.BOOL, []),
    ]
    g.weights.append(numpy_helper.from_array(np.array(True), "emotion"))  # what it is for those who give none
    outputs = [
        value("logits", TensorProto.FLOAT, [1, len(LABELS)]),
        value("speech", TensorProto.FLOAT, [1, SPEECH_FRAMES]),
        value("p_execute", TensorProto.FLOAT, [modules]),
        value("executed", TensorProto.UINT8, [modules]),
        value("emotion_judged", TensorProto.UINT8, []),
    ]
    graph = helper.make_graph(g.nodes, "undertone", inputs, outputs, g.weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="undertone"
    )


def data_of(corpora: dict[str, list[str]]) -> tuple[str, str]:
    """Of `Table.corpora`: the file's words for what was learnt from, and for the licence that follows from it."""
    if not corpora:
        return "the checkpoint does not say", "see the licences of the corpora it was trained on"
    voices = list(dict.fromkeys(CORPORA.get(name.lower().replace("-", ""), name) for name in corpora["voices"]))
    said = f"{', '.join(voices)}; background: {', '.join(corpora['background'])}; train split"
    bound, others = [name for name in NON_COMMERCIAL if name in voices], [name for name in voices if name not in CORPORA.values()]
    if not bound:
        return said, "see the licences of the corpora it was trained on"
    licence = f"CC BY-NC-SA 4.0: {' and '.join(bound)}, which the weights were trained on, {'are' if len(bound) > 1 else 'is'} non-commercial"
    return said, licence + (f"; see the licences of the others, too: {', '.join(others)}" if others else "")


def describe(onnx_model: onnx.ModelProto, model: GatedConformer, content: dict, release: str) -> None:
    """Metadata: what the reader of the file must know."""
    weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
    modules, stem, emotion = costs(model.shape)
    corpora, licence = data_of(content.get("corpora", {}))
    data = {"index_sha256": content["data_digest"], "corpora": corpora}
    for key, text in {
        "contract": CONTRACT,
        "labels": json.dumps(list(LABELS)),
        "features": json.dumps(content["features"]),
        "macs_modules": json.dumps(modules),
        "macs_stem": str(stem),
        "macs_emotion": str(emotion),
        "training_data": json.dumps(data),
        "version": f"{release}+{weights[:8]}",
        "licence": licence,
    }.items():
        onnx_model.metadata_props.add(key=key, value=text)


def sealed(onnx_model: onnx.ModelProto, describe) -> bytes:
    """The bytes of the file, `describe` having added its metadata, and among them how many bytes stand before them, and their SHA-256.

    Metadata come last in an ONNX file, so this covers every weight: the daemon refuses a file that a disk or a download has damaged.
    """
    body = onnx_model.SerializeToString()
    describe()
    onnx_model.metadata_props.add(key="content_sha256", value=f"{len(body)}:{hashlib.sha256(body).hexdigest()}")
    data = onnx_model.SerializeToString()
    assert data.startswith(body), "metadata come last"
    return data


def export(source: Path, target: Path, release: str) -> None:
    content = checkpoint.load(source)
    model = checkpoint.network(content)
    onnx_model = build(model)
    store_small(onnx_model.graph)
    lift_weights(onnx_model.graph)
    data = sealed(onnx_model, lambda: describe(onnx_model, model, content, release))
    onnx.checker.check_model(onnx_model, full_check=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--release", default=RELEASE, help="first part of the version (default: %(default)s)")
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.onnx, arguments.release)


if __name__ == "__main__":
    main()
