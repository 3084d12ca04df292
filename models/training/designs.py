#!/usr/bin/env python3
"""Compare ways to run gated modules in ONNX Runtime: what does a window cost as modules are skipped?

    designs.py [--rounds 60]

Random weights at full size; gates that read pooled statistics of the module's input and are forced open
or shut, so that the arithmetic is that of a trained network and the decisions are known. The
statistics (mean, spread, maximum over time) change only where a module ran, so a module hands them on.

| name | design |
| --- | --- |
| ungated | every module in line, no gates |
| ifs-recompute | 64 `If`s, statistics computed anew before each gate |
| ifs | 64 `If`s, the statistics are a second output of each |
| two-level-N | groups of N behind an outer `If`: while nothing has run in a group its gates all read the same statistics, so one product decides whether any opens |
| sessions | a session for the stem, each module and the heads, driven by the caller, who computes the gates |

CPU time of the calling thread (one intra-op thread, spinning off), the designs in turn, medians.
"""

import argparse
import time

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from export import WRITERS, stem_of
from graph import IR_VERSION, OPSET, Graph
from model import LABELS, ROWS, GatedConformer, Shape

SHUT = (0, 26, 32, 62, 64)
FLOAT = TensorProto.FLOAT
value = helper.make_tensor_value_info


class Network:
    """Bodies of a fresh network, stem, heads, and gates of which `shut` never open."""

    def __init__(self, shut: int, shape: Shape = Shape()):
        torch.manual_seed(1)
        self.shape, model = shape, GatedConformer(shape).eval()
        self.stem = model.stem
        self.bodies = [body for block in model.blocks for body in block.bodies]
        rng = np.random.default_rng(1)
        self.modules, self.pooled = len(self.bodies), 3 * shape.width
        closed = set(np.linspace(0, self.modules - 1, shut).round().astype(int)) if shut else set()
        assert len(closed) == shut
        self.open = np.array([n not in closed for n in range(self.modules)])
        self.gates = 1e-6 * rng.standard_normal((self.pooled, self.modules)).astype(np.float32)
        self.bias = np.where(self.open, 50.0, -50.0).astype(np.float32)
        self.head = 0.1 * rng.standard_normal((2 * self.pooled, len(LABELS))).astype(np.float32)
        self.frame = 0.1 * rng.standard_normal((shape.width, 1)).astype(np.float32)

    def infos(self, x: str, pooled: str) -> list:
        return [value(x, FLOAT, [self.shape.frames, self.shape.width]), value(pooled, FLOAT, [1, self.pooled])]

    def write_stem(self, g: Graph) -> tuple[str, str]:
        x = stem_of(g, self.stem, self.shape)
        return x, self.write_pooled(g, x)

    def write_pooled(self, g: Graph, x: str) -> str:
        over = g.constant(np.full((1, self.shape.frames), 1.0 / self.shape.frames))
        mean = g.op("MatMul", over, x)
        centred = g.op("Sub", x, mean)
        variance = g.op("MatMul", over, g.op("Mul", centred, centred))
        spread = g.op("Sqrt", g.op("Add", variance, g.constant(1e-5)))
        highest = g.op("ReduceMax", x, g.integers(0), keepdims=1)
        return g.op("Concat", mean, spread, highest, axis=1)

    def write_body(self, g: Graph, number: int, x: str) -> str:
        body = self.bodies[number]
        return WRITERS[type(body)](g, x, body, self.shape, False)

    def write_gate(self, g: Graph, first: int, count: int, pooled: str) -> str:
        """Logits [1, count] of the gates from `first` on."""
        end = first + count
        return g.op("Gemm", pooled, g.constant(self.gates[:, first:end]), g.constant(self.bias[first:end]))

    def write_heads(self, g: Graph, x: str, pooled: str, stem: str) -> None:
        both = g.op("Concat", pooled, stem, axis=1)
        g.op("MatMul", both, g.constant(self.head), to="logits")
        g.op("MatMul", x, g.constant(self.frame), to="speech")


def branch(g: Graph, name: str, infos: list) -> onnx.GraphProto:
    return helper.make_graph(g.nodes, name, [], infos, g.weights)


def conditional(g: Graph, condition: str, taken: onnx.GraphProto, passed: onnx.GraphProto) -> list[str]:
    names = [g.name(f"if_{i}") for i in range(len(taken.output))]
    g.nodes.append(helper.make_node("If", [condition], names, then_branch=taken, else_branch=passed))
    return names


def one_gated(net: Network, g: Graph, number: int, x: str, pooled: str, hand_on: bool) -> tuple[str, str, str]:
    """A module behind its `If`; returns x, its statistics (stale unless handed on), the gate's logit."""
    logit = net.write_gate(g, number, 1, pooled)
    run, skip = Graph(f"m{number}_"), Graph(f"m{number}s_")
    out = net.write_body(run, number, x)
    outs, passed = [out], [skip.op("Identity", x)]
    if hand_on:
        outs.append(net.write_pooled(run, out))
        passed.append(skip.op("Identity", pooled))
    infos, skipped = net.infos(*(outs + [outs[0]])[:2])[: len(outs)], net.infos(*(passed + [passed[0]])[:2])[: len(outs)]
    found = conditional(g, g.op("Greater", logit, "limit"), branch(run, f"run{number}", infos), branch(skip, f"skip{number}", skipped))
    return found[0], found[1] if hand_on else pooled, logit


def grouped(net: Network, g: Graph, size: int, x: str, pooled: str) -> tuple[str, str, list[str]]:
    logits = []
    for first in range(0, net.modules, size):
        every = net.write_gate(g, first, size, pooled)
        highest = g.op("ReduceMax", every, g.integers(0, 1), keepdims=0)
        run, skip = Graph(f"g{first}_"), Graph(f"g{first}s_")
        inner_x, inner_pooled, inner = x, pooled, []
        for number in range(first, first + size):
            inner_x, inner_pooled, logit = one_gated(net, run, number, inner_x, inner_pooled, True)
            inner.append(logit)
        joined = run.op("Concat", *inner, axis=1)
        shut = [skip.op("Identity", name) for name in (x, pooled, every)]
        count = value
        taken = branch(run, f"group{first}", [*net.infos(inner_x, inner_pooled), count(joined, FLOAT, [1, size])])
        passed = branch(skip, f"pass{first}", [*net.infos(*shut[:2]), count(shut[2], FLOAT, [1, size])])
        x, pooled, group = conditional(g, g.op("Greater", highest, "limit"), taken, passed)
        logits.append(group)
    return x, pooled, logits


def session(g: Graph, inputs: list, outputs: list) -> onnxruntime.InferenceSession:
    graph = helper.make_graph(g.nodes, "design", inputs, outputs, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


FEATURES = [value("features", FLOAT, [1, ROWS, 360])]
LIMIT = [value("limit", FLOAT, [])]


class Whole:
    """A design that is one file."""

    def __init__(self, net: Network, design: str):
        self.net, g = net, Graph()
        x, pooled = stem = net.write_stem(g)
        logits: list[str] = []
        if design == "ungated":
            for number in range(net.modules):
                x = net.write_body(g, number, x)
            pooled = net.write_pooled(g, x)
        elif design.startswith("two-level"):
            x, pooled, logits = grouped(net, g, int(design.split("-")[-1]), x, pooled)
        else:
            for number in range(net.modules):
                before = net.write_pooled(g, x) if design == "ifs-recompute" and number else pooled
                x, pooled, logit = one_gated(net, g, number, x, before, design == "ifs")
                logits.append(logit)
            if design == "ifs-recompute":
                pooled = net.write_pooled(g, x)
        net.write_heads(g, x, pooled, stem[1])
        outputs = [value("logits", FLOAT, [1, len(LABELS)]), value("speech", FLOAT, [net.shape.frames, 1])]
        if logits:
            every = g.op("Concat", *logits, axis=1)
            g.op("Sigmoid", every, to="p_execute")
            g.op("Cast", g.op("Greater", every, "limit"), to="executed")
            g.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.UINT8))
            outputs += [value("p_execute", FLOAT, [1, net.modules]), value("executed", TensorProto.UINT8, [1, net.modules])]
        self.session = session(g, FEATURES + (LIMIT if logits else []), outputs)
        self.inputs = {"limit": np.array(0.0, np.float32)} if logits else {}

    def run(self, features: np.ndarray) -> tuple[np.ndarray, int]:
        found = self.session.run(None, {"features": features, **self.inputs})
        return found[0], int(found[3].sum()) if len(found) > 2 else self.net.modules


class Sessions:
    """The caller drives the modules, and computes the gates only after one has run."""

    def __init__(self, net: Network):
        self.net = net
        g = Graph()
        stem = net.write_stem(g)
        self.stem = session(g, FEATURES, net.infos(*stem))
        self.modules = []
        for number in range(net.modules):
            g = Graph()
            x = net.write_body(g, number, "x")
            pooled = net.write_pooled(g, x)
            self.modules.append(session(g, net.infos("x", "unused")[:1], net.infos(x, pooled)))
        g = Graph()
        net.write_heads(g, "x", "pooled", "stem")
        outputs = [value("logits", FLOAT, [1, len(LABELS)]), value("speech", FLOAT, [net.shape.frames, 1])]
        self.heads = session(g, [*net.infos("x", "pooled"), value("stem", FLOAT, [1, net.pooled])], outputs)

    def run(self, features: np.ndarray) -> tuple[np.ndarray, int]:
        x, pooled = self.stem.run(None, {"features": features})
        stem, number, ran = pooled, 0, 0
        while number < self.net.modules:
            opens = np.flatnonzero(pooled[0] @ self.net.gates[:, number:] + self.net.bias[number:] > 0.0)
            if not opens.size:
                break
            number += int(opens[0])
            x, pooled = self.modules[number].run(None, {"x": x})
            ran, number = ran + 1, number + 1
        return self.heads.run(None, {"x": x, "pooled": pooled, "stem": stem})[0], ran


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    features = np.random.default_rng(0).normal(-40.0, 15.0, (1, ROWS, 360)).astype(np.float32)
    names = ("ifs-recompute", "ifs", "two-level-16", "two-level-8", "two-level-64", "sessions")
    print(f"| modules skipped | ungated, ms | {' | '.join(names)} |\n|{' --- |' * (len(names) + 2)}")
    for shut in SHUT:
        net = Network(shut)
        designs = {name: Sessions(net) if name == "sessions" else Whole(net, name) for name in ("ungated", *names)}
        reference = None
        times: dict[str, list[int]] = {name: [] for name in designs}
        for number in range(arguments.rounds + 3):
            for name, design in designs.items():
                begun = time.thread_time_ns()
                logits, ran = design.run(features)
                spent = time.thread_time_ns() - begun
                if number >= 3:
                    times[name].append(spent)
                if name != "ungated":
                    assert ran == net.open.sum(), (name, ran)
                    reference = logits if reference is None else reference
                    assert np.allclose(logits, reference, atol=1e-3), name
        medians = {name: float(np.median(spent)) for name, spent in times.items()}
        ratios = " | ".join(f"{medians[name] / medians['ungated']:.3f}" for name in names)
        print(f"| {shut} of {net.modules} | {medians['ungated'] / 1e6:.2f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
