#!/usr/bin/env python3
"""Write what PyTorch answers on tests/golden/parity, for the program to be compared with.

    golden_parity.py RUN/final.pt models/undertone.onnx    PyTorch's answers, the version of the file
    golden_parity.py models/undertone.onnx                where the checkpoint is lost: Python's ONNX Runtime

The figures are computed here from the answers, by the definitions of DESIGN and the model card and not
by the program's code. `make train` does this at the end; tests/evaluate.rs reads the result.
"""

import argparse
import csv
import gzip
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden" / "parity"
LABELS = ("neutral", "happy", "fear", "disgust", "anger", "sad", "background")
BACKGROUND = LABELS.index("background")
THRESHOLD = 0.5  # [model] gate_threshold
ONSET = 0.99  # [cascade] onset
EVIDENCE = 8  # frames of 40 ms over whose mean logit an onset is decided (EVALUATE.md: 320 ms) ...
SUREST = 12.0  # ... each counting up to this, in both directions


@dataclass
class Answers:
    """What a network says to N rows."""

    logits: np.ndarray  # [N, 7]
    speech: np.ndarray  # [N, 90]
    executed: np.ndarray  # [N, 64], 0 or 1
    judged: np.ndarray  # [N], 0 or 1: whether the emotion head was asked


def rows() -> list[dict]:
    with open(FOLDER / "index.csv", newline="") as file:
        return list(csv.DictReader(file))


def features() -> np.ndarray:
    """float32 [N, 80, 360]."""
    return np.load(io.BytesIO(gzip.decompress((FOLDER / "features.npy.gz").read_bytes()))).astype(np.float32)


def as_stored(model, least: int = 1024):
    """The network with its large weights rounded as `graph.store_small` does, after what export.py folds."""
    import torch
    from torch import nn

    from export import stored_small
    from graph import steps
    from model import Listener
    from modules import Attention, FeedForward
    from picture import Picture, Unit

    def half(weight, factor=1.0):
        return (weight * factor).half().float() / factor if weight.numel() >= least else weight

    def small(weight, factor):
        """In 8 bits; `factor` of each row is folded in before."""
        if weight.numel() < least:
            return
        rows = weight.flatten(1).double()
        folded = rows * torch.as_tensor(factor, dtype=torch.float64).reshape(-1, 1)
        step = torch.from_numpy(steps(folded.numpy().T)).T
        weight.copy_(((folded / step).round() * step / torch.as_tensor(factor, dtype=torch.float64).reshape(-1, 1)).view_as(weight))

    with torch.no_grad():
        exact = {id(block.gate) for block in model.blocks}
        for index, block in enumerate(model.blocks):
            for own in (layer for layer in block.modules() if isinstance(layer, FeedForward) and stored_small(index, model.shape)):
                small(own.up.weight, 1.0)
                small(own.down.weight, 0.5)
                exact |= {id(own.up), id(own.down)}
        for layer in model.modules():
            if isinstance(layer, Attention):
                factor = torch.ones(layer.qkv.out_features, 1)
                factor[: layer.qkv.in_features] = layer.head_width**-0.5
                layer.qkv.weight.copy_(half(layer.qkv.weight, factor))
                projected = half(layer.positions(model.shape.frames))
                layer.positions = lambda frames, projected=projected: projected
                exact |= {id(layer.qkv), id(layer.position)}
            elif isinstance(layer, Listener) and layer.hidden.weight.numel() >= least:
                for own in (layer.mean, layer.scale):
                    own.copy_(half(own))
                small(layer.hidden.weight, 1.0)
                exact.add(id(layer.hidden))
            elif isinstance(layer, Picture):
                exact.add(id(layer.column))
                small(layer.column.weight, 1.0)
                for own in (each for each in layer.modules() if isinstance(each, Unit)):
                    norm = own.norm
                    small(own.convolution.weight, norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt())
            elif isinstance(layer, nn.Linear) and id(layer) not in exact:
                layer.weight.copy_(half(layer.weight))
    return model


def by_pytorch(model, inputs: np.ndarray) -> Answers:
    """A network of model.py, in 32 bits, one clip at a time as the program has it."""
    import torch

    with torch.inference_mode():
        outputs = [model(torch.from_numpy(clip[None]), THRESHOLD) for clip in inputs]
    return Answers(*(np.concatenate([getattr(o, name).numpy() for o in outputs]) for name in ("logits", "speech", "executed", "judged")))


def by_onnx(source: bytes, inputs: np.ndarray) -> Answers:
    import onnxruntime

    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    limit = np.array(THRESHOLD, np.float32)
    outputs = [session.run(["logits", "speech", "executed", "emotion_judged"], {"features": clip[None], "gate_threshold": limit}) for clip in inputs]
    logits, speech, executed, judged = zip(*outputs, strict=True)
    return Answers(np.concatenate(logits), np.concatenate(speech), np.stack(executed), np.stack(judged))


def opens(speech: np.ndarray) -> np.ndarray:
    """Logits of frames [N, T] -> whether a segment would begin in each row: by a run of frames whose mean says more than the onset."""
    logits = np.clip(speech.astype(np.float64), -SUREST, SUREST)
    means = np.lib.stride_tricks.sliding_window_view(logits, EVIDENCE, axis=1).mean(2)
    return (1.0 / (1.0 + np.exp(-means)) >= ONSET).any(1)


def figures(index: list[dict], answers: Answers, macs_modules: list[int], macs_stem: int, macs_emotion: int) -> dict:
    """The figures of `undertone evaluate --json` that follow from the answers."""
    truth = np.array([LABELS.index(row["emotion"]) for row in index])
    told = answers.logits.argmax(1)
    corpus, split = (np.array([row[name] for row in index]) for name in ("corpus", "split"))
    noise = truth == BACKGROUND
    skipped = 1.0 - answers.executed.mean(1)
    macs = macs_stem + answers.executed @ np.array(macs_modules) + answers.judged * float(macs_emotion)
    macs = macs / (macs_stem + sum(macs_modules) + macs_emotion)
    corpora: dict = {}
    for name in np.unique(corpus[~noise]):
        for part in np.unique(split[corpus == name]):
            own = (corpus == name) & (split == part)
            recalls = [(told[own & (truth == label)] == label).mean() for label in np.unique(truth[own])]
            accuracy = {"n": int(own.sum()), "accuracy": (told[own] == truth[own]).mean(), "uar": np.mean(recalls)}
            corpora.setdefault(str(name), {})[str(part)] = accuracy | {"skipped": skipped[own].mean()}
    return {
        "corpora": corpora,
        "skipped": {label: skipped[truth == n].mean() for n, label in enumerate(LABELS)},
        "skip_increase": skipped[noise].mean() - skipped[~noise].mean(),
        "macs_ratio": {"speech": macs[~noise].mean(), "background": macs[noise].mean()},
        "background_as_speech": (told[noise] != BACKGROUND).mean(),
        "background_opens_segment": opens(answers.speech)[noise].mean(),
        "background_windows": int(noise.sum()),
        "speech_as_background": (told[~noise] == BACKGROUND).mean(),
    }


def metadata(path: Path) -> dict[str, str]:
    return {property.key: property.value for property in onnx.load(path).metadata_props}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="RUN/final.pt")
    parser.add_argument("onnx", type=Path, help="the exported file")
    arguments = parser.parse_args()
    card = metadata(arguments.onnx)
    if arguments.checkpoint:
        import torch

        import checkpoint

        content = checkpoint.load(arguments.checkpoint)
        if int(card["macs_emotion"]) and not content["shape"].get("emotions"):
            sys.exit(f"{arguments.checkpoint} has no emotion head, and {arguments.onnx} has one; give what it was exported from (RUN/final.pt)")
        model = as_stored(checkpoint.network(content))
        answers = by_pytorch(model, features())
        source = f"PyTorch {torch.__version__.split('+')[0]}"
    else:
        import onnxruntime

        answers = by_onnx(arguments.onnx.read_bytes(), features())
        source = f"Python's ONNX Runtime {onnxruntime.__version__}"
    index = rows()
    found = figures(index, answers, json.loads(card["macs_modules"]), int(card["macs_stem"]), int(card["macs_emotion"]))
    head = json.dumps({"model": card["version"], "made_by": source, "figures": found}, default=float, indent=1)
    answered = zip(answers.logits.round(4).astype(float), answers.executed.astype(int), strict=True)
    lines = [json.dumps({"logits": logits.tolist(), "executed": "".join(map(str, ran))}) for logits, ran in answered]
    text = head.removesuffix("\n}") + ',\n "rows": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
    (FOLDER / "expected.json").write_text(text, encoding="utf-8")
    print(f"{FOLDER / 'expected.json'}: model {card['version']}, by {source}")


if __name__ == "__main__":
    main()
