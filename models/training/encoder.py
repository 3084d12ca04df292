"""The teacher's ears in PyTorch: the pretrained encoder of Smart Turn v3.2 and the spectra it hears.

Smart Turn (Daily, BSD 2-clause) grew from OpenAI's Whisper tiny (MIT; Radford et al. 2022); its weights come out of the
ONNX file that the Python package pipecat-ai carries, where they are stored in 8 bits. Here they are plain PyTorch, so that
they run on any device.
"""

import importlib.util
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

RATE = 16_000
HOP = 160  # samples between two spectra
STEP = 320  # between two of the encoder's frames
LONGEST = 400  # of its frames: 8 s
WIDTH, HEADS, BANDS, BLOCKS = 384, 6, 80, 4
FOLDER = "pipecat/audio/turn/smart_turn"


def package_file(name: str) -> Path:
    return Path(str(distribution("pipecat-ai").locate_file(f"{FOLDER}/{name}")))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.self_attn = Attention()
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class Encoder(nn.Module):
    """Spectra [B, 80, 2T] of sound that ends where the clip ends -> each block's output, [B, T, 384]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.places = nn.Parameter(torch.zeros(LONGEST, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(BLOCKS))

    def forward(self, spectra: Tensor) -> list[Tensor]:
        x = F.gelu(self.conv2(F.gelu(self.conv1(spectra)))).transpose(1, 2)
        x = x + self.places[-x.shape[1] :]
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


def pretrained() -> Encoder:
    """The encoder with the package's weights."""
    graph = onnx.load(package_file("data/smart-turn-v3.2-cpu.onnx")).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    def value(name: str) -> np.ndarray | None:
        """A constant, given back its 32 bits where it is stored in fewer."""
        if name in constants:
            return constants[name]
        node = made_by.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            return None
        quantized, scale, zero = (constants[i].astype(np.float32) for i in node.input)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [-1 if n == axis else 1 for n in range(quantized.ndim)] if scale.size > 1 else []
        return (quantized - zero.reshape(shape)) * scale.reshape(shape)

    def source(name: str) -> onnx.NodeProto | None:
        """What computed a value, seen through the rounding of activations."""
        node = made_by.get(name)
        while node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node = made_by.get(node.input[0])
        return node

    prefix = "inner.encoder."
    state = {name.removeprefix(prefix): array for name, array in constants.items() if name.startswith(prefix) and array.dtype == np.float32}
    state = {name: array for name, array in state.items() if not name.endswith(("_scale", "_zero_point"))}
    state["places"] = state.pop("embed_positions.weight")
    products = []
    for node in graph.node:
        if node.op_type == "MatMul" and (weight := value(node.input[1])) is not None:
            products.append((node.output[0], weight))
        elif node.op_type == "Conv":
            layer = f"conv{1 + sum(name.endswith('weight') and name.startswith('conv') for name in state)}"
            state |= {f"{layer}.weight": value(node.input[1]), f"{layer}.bias": value(node.input[2])}
    of = {}
    for node in graph.node:
        if node.op_type == "Add":
            biases = [i for i in node.input if i.startswith(prefix) and i.endswith(".bias")]
            if biases and (other := source(next(i for i in node.input if i not in biases))) is not None:
                of[other.output[0]] = biases[0].removeprefix(prefix).removesuffix(".bias")
    for place, (output, weight) in enumerate(products):
        if output in of:
            state[f"{of[output]}.weight"] = weight.T
    keys = [weight for output, weight in products if output not in of and weight.shape == (WIDTH, WIDTH)]
    state |= {f"layers.{n}.self_attn.k_proj.weight": weight.T for n, weight in enumerate(keys)}
    encoder = Encoder()
    encoder.load_state_dict({n: torch.from_numpy(np.array(a, np.float32)) for n, a in state.items() if not n.startswith("layer_norm")})
    return encoder


class Spectra(nn.Module):
    """Whisper's log-mel spectra, as the package computes them, for many clips at once."""

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.spec_from_file_location("whisper_features", package_file("_whisper_features.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.register_buffer("mel", torch.from_numpy(module._MEL_FILTERS.T.copy()).float())
        self.register_buffer("window", torch.from_numpy(module._HANN_WINDOW.copy()).float())

    def forward(self, samples: Tensor, length: int) -> Tensor:
        """Clips [B, 128000] of 8 s, the voice at their end, zeros before it -> the last `length` frames' spectra, [B, 80, 2 * length]."""
        samples = samples - samples.mean(1, keepdim=True)
        samples = samples / (samples.square().mean(1, keepdim=True) + 1e-7).sqrt()
        spectrum = torch.stft(samples, len(self.window), HOP, window=self.window, center=True, pad_mode="reflect", return_complex=True)
        power = self.mel @ spectrum[..., :-1].abs().square()
        level = power.clamp(min=1e-10).log10()
        level = torch.maximum(level, level.amax((1, 2), keepdim=True) - 8.0)
        return ((level + 4.0) / 4.0)[..., -2 * length :]
