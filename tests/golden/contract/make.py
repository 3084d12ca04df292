#!/usr/bin/env python3
"""Tiny models that the program must take (fits.onnx) or refuse (the others). Needs onnx and numpy.

    tests/golden/contract/make.py
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

LABELS = ["neutral", "happy", "fear", "disgust", "anger", "sad", "background"]
FEATURES = {
    "sample_rate": 16000, "window": 400, "fft": 1024, "hop": 160, "mels": 40, "frames": 360, "delta": 9, "top_db": 80.0,
}  # fmt: skip
METADATA = {
    "contract": "undertone/1",
    "labels": json.dumps(LABELS),
    "features": json.dumps(FEATURES),
    "macs_modules": json.dumps([1] * 64),
    "macs_stem": "1",
    "version": "test",
}


def model(metadata: dict, classes: int = 7):
    """Constant answers: background, no speech, nothing executed."""
    value = helper.make_tensor_value_info
    logits = np.zeros((1, classes), np.float32)
    logits[0, 6] = 5.0
    constants = {
        "logits": logits,
        "speech": np.full((1, 90), -5.0, np.float32),
        "p_execute": np.zeros(64, np.float32),
        "executed": np.zeros(64, np.uint8),
    }
    nodes = [helper.make_node("Identity", [f"{name}_constant"], [name]) for name in constants]
    types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8}
    graph = helper.make_graph(
        nodes,
        "constant",
        [value("features", TensorProto.FLOAT, [1, 80, 360]), value("gate_threshold", TensorProto.FLOAT, [])],
        [value(name, types[array.dtype], array.shape) for name, array in constants.items()],
        [numpy_helper.from_array(array, f"{name}_constant") for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(made, metadata)
    return made


here = Path(__file__).parent
save(model(METADATA), here / "fits.onnx")
save(model(METADATA, classes=9), here / "other_output.onnx")
save(model({}), here / "no_metadata.onnx")
save(model(METADATA | {"features": json.dumps(FEATURES | {"hop": 80})}), here / "other_hop.onnx")
save(model(METADATA | {"labels": json.dumps(LABELS[::-1])}), here / "other_labels.onnx")
