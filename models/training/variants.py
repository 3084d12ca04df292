#!/usr/bin/env python3
"""From the shipped model, make what the latency benchmark compares. Needs only onnx and numpy.

    variants.py models/undertone.onnx FOLDER

| file | what it is |
| --- | --- |
| ungated.onnx | every module in line, without an `If` and without a gate that decides |
| skip-0.onnx, skip-40.onnx, skip-97.onnx, skip-100.onnx | 0, 26, 62, 64 of 64 gates shut, whatever the input |

Which gates are shut is spread evenly over the network, so that each kind of module has its share.
"""

import argparse
import copy
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

SHUT = {"skip-0": 0, "skip-40": 26, "skip-97": 62, "skip-100": 64}
FIRM = 50.0  # a logit that no threshold but 0 and 1 overcomes


def gates(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The `Gemm` that gives each gate's logit, in the order of the modules."""
    makers = {output: node for node in graph.node for output in node.output}
    conditions = [makers[node.input[0]] for node in graph.node if node.op_type == "If"]
    return [makers[condition.input[0]] for condition in conditions]


def forced(model: onnx.ModelProto, shut: int) -> onnx.ModelProto:
    """The model with `shut` gates that never open and the others always open."""
    model = copy.deepcopy(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    every = gates(model.graph)
    closed = set(np.linspace(0, len(every) - 1, shut).round().astype(int)) if shut else set()
    assert len(closed) == shut
    for number, gate in enumerate(every):
        for name, value in ((gate.input[1], 0.0), (gate.input[2], -FIRM if number in closed else FIRM)):
            old = numpy_helper.to_array(weights[name])
            weights[name].CopyFrom(numpy_helper.from_array(np.full_like(old, value), name))
    return model


def ungated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each module's body in line; `executed` is then all ones, as with firm gates."""
    model = forced(model, 0)
    graph, nodes = model.graph, []
    for node in graph.node:
        if node.op_type != "If":
            nodes.append(node)
            continue
        body = next(a.g for a in node.attribute if a.name == "then_branch")
        graph.initializer.extend(body.initializer)
        for inner in body.node:
            inner = copy.deepcopy(inner)
            for i, output in enumerate(inner.output):
                if output == body.output[0].name:
                    inner.output[i] = node.output[0]
            nodes.append(inner)
    del graph.node[:]
    graph.node.extend(nodes)
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
