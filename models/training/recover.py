#!/usr/bin/env python3
"""The network of an exported file as a run that train.py goes on with: its first part again, from weights that have had a whole one.

    recover.py FEATURES... --out RUN --model MODEL.onnx [settings of train.py]
    train.py FEATURES... --out RUN [the same settings]

RUN/last.pt is then at step 0. The stem, the heads and every second block are the file's; the blocks between, the gates and what
listens to the teacher are as a new network has them, so that the later parts begin as they do in any run. What the file
holds in 8 or 16 bits comes back with that error; BatchNorms are measured anew on the training rows. The emotion head is left to emotions.py.

The run keeps which corpora the file had learnt from. It may have learnt from the validation speakers, too, as the released one has: figures
of them are then those of known speakers.

Files of exporters before 0.8.1 are refused. Nothing is read by its place in the file: a network of random weights is exported by the same functions, and each number in the file is found
where that network's number went.
"""

import copy
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import checkpoint
from data import DataError, load
from export import build, gates_of
from graph import array, steps
from model import Block, Emotions, GatedConformer, Shape
from modules import Attention, Convolution, FeedForward
from parts import command_line
from picture import Unit
from runtime import quicken
from train import Trainer, standardize

CALIBRATION = 2048  # clips by which BatchNorms are measured
# Slow sinusoids are nearly alike over so few frames. Directions with less than this part of the largest hold nothing but the rounding of
# the file, which would come back as weights of millions.
ALIKE = 1e-4


class Unknown(Exception):
    """The file is not one of this exporter, or of a network of another shape."""


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Every weight by its name, also of branches, whether stored whole or small."""
    found = {weight.name.removesuffix("_in"): numpy_helper.to_array(weight).astype(np.float64) for weight in graph.initializer if weight.data_type != onnx.TensorProto.BOOL}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found |= constants(attribute.g)
    return found


def scrambled(shape: Shape) -> GatedConformer:
    """A network in which no two numbers are alike."""
    model = GatedConformer(shape)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.dtype.is_floating_point and value.ndim:
                value.uniform_(0.5, 1.5)
    return model.eval()


class Reader:
    """Finds in a file what stands in the place of a weight of `twin`."""

    def __init__(self, file: onnx.ModelProto, twin: GatedConformer):
        self.twin, self.file = twin, constants(file.graph)
        self.places: dict[tuple, list[tuple[str, np.ndarray]]] = {}
        for name, value in constants(build(twin).graph).items():
            self.places.setdefault(value.shape, []).append((name, value))

    def read(self, value: np.ndarray) -> np.ndarray:
        """What the file has where the twin has this."""
        value = np.asarray(value, np.float32)
        for name, own in self.places.get(value.shape, []):
            if np.allclose(own, value, rtol=1e-6, atol=0.0):
                if name in self.file and self.file[name].shape == value.shape:
                    return self.file[name]
                break
        raise Unknown("the file is no network of this exporter and shape")

    def put(self, target: torch.Tensor, own: torch.Tensor) -> None:
        """A weight that the file holds as it is."""
        put(target, self.read(array(own)))

    def linear(self, target: torch.nn.Linear, own: torch.nn.Linear, share: float = 1.0) -> None:
        """A product, whose values are `share` of the layer's in the file."""
        put(target.bias, self.read(share * array(own.bias)) / share)
        put(target.weight, self.product(share * array(own.weight)) / share)

    def product(self, weight: np.ndarray) -> np.ndarray:
        """[out, in] of `graph.linear`, or of `graph.linear_small`."""
        try:
            return self.read(weight.T).T
        except Unknown:
            step = steps(weight.T)
            return (self.read(weight.T / step) * self.read(step)).T

    def norm(self, target: torch.nn.Module, own: torch.nn.Module) -> None:
        self.put(target.weight, own.weight)
        self.put(target.bias, own.bias)


def put(target: torch.Tensor, value: np.ndarray) -> None:
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.array(value)).reshape(target.shape))


def feed_forward(reader: Reader, target: FeedForward, own: FeedForward) -> None:
    reader.norm(target.norm, own.norm)
    reader.linear(target.up, own.up)
    reader.linear(target.down, own.down, 0.5)


def attention(reader: Reader, target: Attention, own: Attention) -> None:
    width, frames = own.qkv.in_features, reader.twin.shape.frames
    share = np.ones((3 * width, 1))
    share[:width] = own.head_width**-0.5
    reader.norm(target.norm, own.norm)
    put(target.qkv.weight, reader.product(array(own.qkv.weight) * share) / share)
    put(target.qkv.bias, reader.read(array(own.qkv.bias) * share[:, 0]) / share[:, 0])
    reader.put(target.content_bias, own.content_bias)
    reader.put(target.position_bias, own.position_bias)
    reader.linear(target.out, own.out)
    # [heads, d/heads, 2T-1] are the sinusoids [2T-1, d] times the weight: the smallest weight that makes them.
    projected = reader.read(array(own.positions(frames))).transpose(2, 0, 1).reshape(2 * frames - 1, width)
    put(target.position.weight, np.linalg.lstsq(array(target.sinusoids), projected, rcond=ALIKE)[0].T)


def convolution(reader: Reader, target: Convolution, own: Convolution) -> None:
    """BatchNorm stands in the kernel and the bias of the file; here it does nothing but that bias until it is `measured`."""
    norm = own.batch_norm
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    reader.norm(target.norm, own.norm)
    reader.linear(target.expand, own.expand)
    reader.linear(target.project, own.project)
    put(target.depthwise, reader.read((array(own.depthwise) * scale[:, None])[:, None, None]))
    idle(target.batch_norm, reader.read(array(norm.bias) - array(norm.running_mean) * scale))


def idle(norm: torch.nn.Module, bias: np.ndarray) -> None:
    """A BatchNorm that adds this bias and does nothing else."""
    for target, value in ((norm.bias, bias), (norm.weight, 1.0), (norm.running_mean, 0.0), (norm.running_var, 1.0 - norm.eps)):
        put(target, np.broadcast_to(value, bias.shape))


def emotions(reader: Reader, target: Emotions, own: Emotions) -> None:
    """The emotion head: both listeners, and the picture, whose BatchNorms stand in its kernels."""
    for listener, theirs in ((target.network, own.network), (target.sound, own.sound)):
        put(listener.mean, reader.read(array(theirs.mean)[None]))
        put(listener.scale, reader.read(array(theirs.scale)[None]))
        reader.linear(listener.hidden, theirs.hidden)
        reader.linear(listener.classes, theirs.classes)
    put(target.picture.mean, reader.read(array(own.picture.mean)[None]))
    put(target.picture.scale, reader.read(array(own.picture.scale)[None]))
    for name in ("column", "attend", "classes"):
        reader.linear(getattr(target.picture, name), getattr(own.picture, name))
    for unit, theirs in zip(*([m for m in picture.modules() if isinstance(m, Unit)] for picture in (target.picture, own.picture)), strict=True):
        scale = array(theirs.norm.weight) / np.sqrt(array(theirs.norm.running_var) + theirs.norm.eps)
        kernel = array(theirs.convolution.weight) * scale[:, None, None, None]
        step = steps(kernel.reshape(len(kernel), -1).T).reshape(-1, 1, 1, 1)
        put(unit.convolution.weight, reader.read(kernel / step) * reader.read(step))
        idle(unit.norm, reader.read(array(theirs.norm.bias) - array(theirs.norm.running_mean) * scale))


def gates(reader: Reader, targets: list[Block], own: list[Block]) -> None:
    """The gates of all blocks, which the file has in one piece."""
    weight, bias = gates_of(own)
    share = weight / np.concatenate([array(block.gate.weight) for block in own])
    weights, biases = (np.split(reader.read(value) / by, len(own)) for value, by in ((weight, share), (bias, 1.0)))
    for block, rows, level in zip(targets, weights, biases, strict=True):
        put(block.gate.weight, rows)
        put(block.gate.bias, level)


READERS = {FeedForward: feed_forward, Attention: attention, Convolution: convolution}


def network_of(file: onnx.ModelProto, shape: Shape) -> GatedConformer:
    """The network of a file, with the emotion head if the shape has one; raises `Unknown`."""
    model, twin = GatedConformer(shape), scrambled(shape)
    reader = Reader(file, twin)
    put(model.stem.mean, reader.read(array(twin.stem.mean)[None])[0])
    put(model.stem.scale, np.ones(tuple(model.stem.scale.shape)))
    put(model.stem.first.weight, reader.read((array(twin.stem.first.weight) * array(twin.stem.scale)[None])[:, :, None]))
    reader.put(model.stem.first.bias, twin.stem.first.bias)
    for target, own in ((model.stem.second, twin.stem.second), (model.stem.context, twin.stem.context)):
        put(target.weight, reader.read(array(own.weight)[:, :, None]))
        reader.put(target.bias, own.bias)
    reader.linear(model.stem.mix, twin.stem.mix)
    reader.norm(model.stem.norm, twin.stem.norm)
    reader.norm(model.heads.norm, twin.heads.norm)
    for name in ("speech", "attend", "hidden", "classes"):
        reader.linear(getattr(model.heads, name), getattr(twin.heads, name))
    for block, own in zip(model.blocks, twin.blocks, strict=True):
        for target, body in zip(block.bodies, own.bodies, strict=True):
            READERS[type(body)](reader, target, body)
    if model.emotions:
        emotions(reader, model.emotions, twin.emotions)
    gates(reader, list(model.blocks), list(twin.blocks))
    return model.eval()


def measured(model: GatedConformer, features: torch.Tensor, keep: list[list[bool]]) -> None:
    """Give each BatchNorm that runs the mean and spread of what it is given, and change nothing by it."""
    for block, kept in zip(model.blocks, keep, strict=True):
        for body, runs in zip(block.bodies, kept, strict=True):
            if runs and isinstance(body, Convolution):
                body.batch_norm.register_forward_pre_hook(gather)
    with torch.inference_mode():
        for clips in features.split(64):
            model.forward_ungated(clips, keep)
    for module in model.modules():
        if not hasattr(module, "gathered"):
            continue
        count, total, square = module.gathered
        mean = total / count
        variance = square / count - mean.square()
        with torch.no_grad():
            module.bias += mean.float()
            module.weight.copy_((variance + module.eps).sqrt())
            module.running_mean.copy_(mean)
            module.running_var.copy_(variance)
        del module.gathered
        module._forward_pre_hooks.clear()


def gather(module: torch.nn.Module, inputs: tuple) -> None:
    """[1, d, n]: count, sum and sum of squares of each channel so far."""
    x = inputs[0][0].double()
    own = (x.shape[1], x.sum(1), x.square().sum(1))
    module.gathered = tuple(a + b for a, b in zip(getattr(module, "gathered", (0, 0.0, 0.0)), own, strict=True))


def begun(trainer: Trainer, found: GatedConformer) -> None:
    """Put what the first part trains into a run that has not begun."""
    chosen = np.random.default_rng(trainer.settings.seed).choice(trainer.train_rows, min(CALIBRATION, len(trainer.train_rows)), replace=False)
    own = copy.deepcopy(trainer.model)
    standardize(own, trainer.table, trainer.train_rows, trainer.settings.seed)
    # The same first product, of features that are even.
    with torch.no_grad():
        found.stem.first.weight /= own.stem.scale[None]
        found.stem.scale.copy_(own.stem.scale)
    keep = trainer.standing(False)
    measured(found, torch.from_numpy(trainer.table.batch(chosen)[0]), keep)
    trainer.model.stem.load_state_dict(found.stem.state_dict())
    trainer.model.heads.load_state_dict(found.heads.state_dict())
    for block, theirs, kept in zip(trainer.model.blocks, found.blocks, keep, strict=True):
        if all(kept):
            block.bodies.load_state_dict(theirs.bodies.state_dict())
    trainer.average.restore(trainer.model.state_dict(), 0)


def learnt_from(file: onnx.ModelProto) -> dict[str, list[str]]:
    """The corpora that export.py names in a file."""
    told = next((json.loads(own.value)["corpora"] for own in file.metadata_props if own.key == "training_data"), "")
    # The released files name the background together: 0.8.1 says what 0.8.0 did.
    named = re.fullmatch(r"(.+?)(?:; background: | and )(.+)[;,] train split", told)
    if not named:
        raise Unknown("the file does not name the corpora that it has learnt from")
    return {name: names.split(", ") for name, names in zip(("voices", "background"), named.groups(), strict=True)}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the exported file")
    settings = parser.parse_args()
    if (settings.out / "last.pt").exists():
        sys.exit(f"{settings.out} holds a run already; name another folder")
    quicken(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    try:
        shape = Shape(dropout=settings.dropout, head_dropout=settings.head_dropout)
        trainer = Trainer(load(settings.data), shape, settings)
        file = onnx.load(settings.model)
        trainer.before = learnt_from(file)
        begun(trainer, network_of(file, shape))
    except (DataError, Unknown) as error:
        sys.exit(str(error))
    checkpoint.save(settings.out / "last.pt", trainer.state())


if __name__ == "__main__":
    main()
