#!/usr/bin/env python3
"""From the shipped model, make what the latency benchmark compares. Needs only onnx and numpy.

    variants.py models/undertone.onnx FOLDER

| file | what it is |
| --- | --- |
| ungated.onnx | every module in line, without gates; the emotion head wherever it is wanted |
| skip-0.onnx, skip-40.onnx, skip-97.onnx, skip-100.onnx | 0, 26, 62, 64 of 64 gates shut, whatever the input |

Which gates are shut is spread evenly over the network, so that each kind of module has its share.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SHUT = {"skip-0": 0, "skip-40": 26, "skip-97": 62, "skip-100": 64}
GATES = "exact_gates"  # what export.py calls the gates' weights and biases
EMOTIONS = "run_emotions"  # what export.py calls the emotion head's branch
FIRM = 50.0  # a logit that no threshold but 0 and 1 overcomes


def forced(model: onnx.ModelProto, shut: int) -> onnx.ModelProto:
    """The model with `shut` gates that never open and the others always open."""
    model = copy.deepcopy(model)
    found = [tensor for tensor in model.graph.initializer if tensor.name.startswith(GATES)]
    if len(found) != 2:
        raise SystemExit(f"nothing in the model is named {GATES}: an exporter before 0.8.1 made it")
    weight, bias = found
    (modules,) = bias.dims
    closed = np.zeros(modules, bool)
    closed[np.linspace(0, modules - 1, shut).round().astype(int)] = True
    assert closed.sum() == shut
    weight.CopyFrom(numpy_helper.from_array(np.zeros(list(weight.dims), np.float32), weight.name))
    bias.CopyFrom(numpy_helper.from_array(np.where(closed, -FIRM, FIRM).astype(np.float32), bias.name))
    return model


def inlined(nodes, initializers: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Nodes with the taken branch of every `If` in its place, also of those inside it; the emotion head's asks for nothing but whether it is wanted."""
    found = []
    for node in nodes:
        body = next((a.g for a in node.attribute if a.name == "then_branch"), None)
        if body is None or body.name == EMOTIONS:
            found.append(copy.deepcopy(node))
            if body is not None:
                found[-1].input[0] = "emotion"
            continue
        initializers.extend(body.initializer)
        found += inlined(body.node, initializers)
        for inner, outer in zip(body.output, node.output, strict=True):
            found.append(helper.make_node("Identity", [inner.name], [outer]))
    return found


def ungated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each module's body in line, and without what only the gates needed."""
    model = copy.deepcopy(model)
    graph, weights = model.graph, []
    nodes = inlined(graph.node, weights)
    graph.initializer.extend(weights)
    (modules,) = (dimension.dim_value for dimension in next(o for o in graph.output if o.name == "executed").type.tensor_type.shape.dim)
    ones = {"p_execute": np.ones(modules, np.float32), "executed": np.ones(modules, np.uint8)}
    nodes = [node for node in nodes if not set(node.output) & {*ones, "emotion_judged"}]
    nodes.append(helper.make_node("Cast", ["emotion"], ["emotion_judged"], to=onnx.TensorProto.UINT8))
    for name, value in ones.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_ones"))
        nodes.append(helper.make_node("Identity", [f"{name}_ones"], [name]))
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input) | {name for a in node.attribute for inner in a.g.node for name in inner.input}
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    unused = [tensor for tensor in graph.initializer if tensor.name not in needed]
    for tensor in unused:
        graph.initializer.remove(tensor)
    return model


def unsealed(model: onnx.ModelProto) -> None:
    """Without the digest of bytes that are others now (export.sealed)."""
    for own in [each for each in model.metadata_props if each.key == "content_sha256"]:
        model.metadata_props.remove(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(arguments.model)
    variants = {"ungated": ungated(model)} | {name: forced(model, shut) for name, shut in SHUT.items()}
    for name, variant in variants.items():
        unsealed(variant)
        onnx.checker.check_model(variant)
        onnx.save(variant, arguments.folder / f"{name}.onnx")
    print(f"{', '.join(variants)} in {arguments.folder}")


if __name__ == "__main__":
    main()
