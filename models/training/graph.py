"""Small tools to write an ONNX graph node by node."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
SMALL = "small"  # how weights are named that `store_small` may store in 8 bits
EXACT = "exact"  # and those that it leaves alone


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


class Graph:
    """Nodes and weights of a graph, or of the branch of an `If`, in the making."""

    def __init__(self, prefix: str = ""):
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def name(self, what: str) -> str:
        return f"{self.prefix}{what}{len(self.nodes) + len(self.weights)}"

    def constant(self, value, dtype=np.float32, what: str = "w") -> str:
        name = self.name(what)
        self.weights.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values), np.int64)

    def op(self, kind: str, *inputs: str, outputs: int = 1, to: str | None = None, **attributes):
        names = [to] if to else [self.name("v") + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x: str, weight, bias) -> str:
        """x [n, in] times weight [out, in] transposed, plus bias [out]."""
        return self.op("Gemm", x, self.constant(weight.T), self.constant(bias))

    def linear_small(self, x: str, weight, bias) -> str:
        """The same with a weight that `store_small` can round to 8 bits: what a step is worth is multiplied in after the product."""
        step = steps(weight.T)
        product = self.op("MatMul", x, self.constant(weight.T / step, what=SMALL))
        return self.op("Add", self.op("Mul", product, self.constant(step)), self.constant(bias))

    def convolved(self, x: str, weight, bias, around: int, stride: int = 1, group: int = 1) -> str:
        """x [1, in, 1, n] convolved along n with [out, in / group, k], with so many zeros around it."""
        shape = {"kernel_shape": [1, weight.shape[-1]], "strides": [1, stride], "pads": [0, around] * 2, "group": group}
        return self.op("Conv", x, self.constant(weight[:, :, None]), self.constant(bias), **shape)

    def convolved_small(self, x: str, weight, bias, stride: int) -> str:
        """x [1, in, h, w] convolved with [out, in, k, k], around which there are zeros; a weight that `store_small` can round to 8 bits."""
        step = steps(weight.reshape(len(weight), -1).T).reshape(-1, 1, 1, 1)
        wide = self.op("Mul", self.constant(weight / step, what=SMALL), self.constant(step))
        around = weight.shape[-1] // 2
        return self.op("Conv", x, wide, self.constant(bias), kernel_shape=list(weight.shape[-2:]), strides=[stride] * 2, pads=[around] * 4)

    def layer_norm(self, x: str, norm) -> str:
        scale, bias = (self.constant(p.detach().numpy()) for p in (norm.weight, norm.bias))
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=norm.eps)

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def branch(self, name: str, outputs: list[str], shapes: list[list[int]]) -> onnx.GraphProto:
        """This graph as a branch: no inputs of its own, it sees the outer names."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, s) for o, s in zip(outputs, shapes, strict=True)]
        return helper.make_graph(self.nodes, name, [], infos, self.weights)


def steps(weight: np.ndarray) -> np.ndarray:
    """What a step is worth in each column of a weight [in, out] whose values are told by whole numbers from -127 to 127, [1, out]."""
    return (np.abs(weight).max(0, keepdims=True) / 127.0 + 1e-30).astype(np.float32)


def store_small(graph: onnx.GraphProto, least: int = 1024) -> None:
    """Store large weights in 16 bits, those named SMALL in 8, also in branches; what runs turns its own into 32.

    Those named EXACT stay as they are, and so do kernels that a `Conv` reads directly: ONNX Runtime lays out constants of 32 bits only.
    """
    exact = kernels(graph)
    large = [
        w
        for w in graph.initializer
        if w.data_type == TensorProto.FLOAT and np.prod(w.dims) >= least and w.name not in exact and EXACT not in w.name
    ]
    for weight in large:
        name, value = weight.name, numpy_helper.to_array(weight)
        graph.initializer.remove(weight)
        value = value.round().astype(np.int8) if SMALL in name else value.astype(np.float16)
        graph.node.insert(0, helper.make_node("Cast", [f"{name}_in"], [name], to=TensorProto.FLOAT))
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_in"))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                store_small(attribute.g, least)


def kernels(graph: onnx.GraphProto) -> set[str]:
    """What the convolutions of this graph (without its branches) read their kernels from."""
    return {node.input[1] for node in graph.node if node.op_type == "Conv"}


def lift_weights(graph: onnx.GraphProto, least: int = 2000) -> None:
    """Move large weights out of branches into the graph itself, under the same (unique) names.

    ONNX Runtime keeps a branch as it stands in the file beside what it makes of it, and a branch inside a
    branch twice: weights in there are held three times over. Small ones stay, because each that is seen from
    outside costs a condition some time, and kernels, which are laid out anew only in the graph that they stand in.
    """

    def lift(branch: onnx.GraphProto) -> None:
        stay = kernels(branch)
        for weight in [w for w in branch.initializer if np.prod(w.dims) >= least and w.name not in stay]:
            branch.initializer.remove(weight)
            graph.initializer.append(weight)
        inside(branch)

    def inside(outer: onnx.GraphProto) -> None:
        for node in outer.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    lift(attribute.g)

    inside(graph)
    names = [weight.name for weight in graph.initializer]
    assert len(set(names)) == len(names), "two branches use one name"
