#!/usr/bin/env python3
"""From the shipped model, make what the latency benchmark compares. Needs only onnx and numpy.

    variants.py models/undertone.onnx FOLDER

| file | what it is |
| --- | --- |
| ungated.onnx | every module in line, without an `If` and without gates |
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
FIRM = 50.0  # a logit that no threshold but 0 and 1 overcomes


def gates(graph: onnx.GraphProto) -> list[tuple[str, str, int]]:
    """Weights and biases of the gates' products and how many gates each serves, in the order of the modules.

    The condition of an outer `If` is a comparison of a product, or of the largest of its values.
    """
    makers = {output: node for node in graph.node for output in node.output}
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "If":
            maker = makers[makers[node.input[0]].input[0]]
            product = makers[maker.input[0]] if maker.op_type == "ReduceMax" else maker
            assert product.op_type == "Gemm", product.op_type
            found.append((product.input[1], product.input[2], sizes[product.input[2]]))
    return found


def forced(model: onnx.ModelProto, shut: int) -> onnx.ModelProto:
    """The model with `shut` gates that never open and the others always open."""
    model = copy.deepcopy(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    every = gates(model.graph)
    count = sum(size for _, _, size in every)
    closed = np.zeros(count, bool)
    closed[np.linspace(0, count - 1, shut).round().astype(int)] = True
    assert closed.sum() == shut
    firm = np.where(closed, -FIRM, FIRM).astype(np.float32)
    for (weight, bias, size), own in zip(every, np.split(firm, np.cumsum([size for _, _, size in every])[:-1]), strict=True):
        assert own.size == size
        for name, value in ((weight, np.zeros(list(weights[weight].dims), np.float32)), (bias, own)):
            weights[name].CopyFrom(numpy_helper.from_array(value.reshape(list(weights[name].dims)), name))
    return model


def inlined(nodes, initializers: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """Nodes with the taken branch of every `If` in its place, also of those inside it."""
    found = []
    for node in nodes:
        if node.op_type != "If":
            found.append(copy.deepcopy(node))
            continue
        body = next(a.g for a in node.attribute if a.name == "then_branch")
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
    nodes = [node for node in nodes if not set(node.output) & set(ones)]
    for name, value in ones.items():
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_ones"))
        nodes.append(helper.make_node("Identity", [f"{name}_ones"], [name]))
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    unused = [tensor for tensor in graph.initializer if tensor.name not in needed]
    for tensor in unused:
        graph.initializer.remove(tensor)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(arguments.model)
    variants = {"ungated": ungated(model)} | {name: forced(model, shut) for name, shut in SHUT.items()}
    for name, variant in variants.items():
        onnx.checker.check_model(variant)
        onnx.save(variant, arguments.folder / f"{name}.onnx")
    print(f"{', '.join(variants)} in {arguments.folder}")


if __name__ == "__main__":
    main()
