#!/usr/bin/env python3
"""What a pretrained speech encoder makes of each clip's voice: targets for training to distil.

    teacher.py MIX FEATURES     after `undertone corpus mix --dry` and `undertone corpus features`

The teacher is the encoder of Smart Turn v3.2 (Daily, BSD 2-clause; grown from OpenAI's Whisper tiny, MIT), as the
Python package pipecat-ai carries it. It hears the voice alone (MIX/dry), the network in training the clip with room,
noise and microphone: so the network learns to hear what a network heard that knows many thousands of speakers, and to
hear it through the noise. Nothing of the teacher is in the exported model.

Writes into FEATURES:
    teacher-frames.npy  float16 [N, 45, 96]   the voice in each frame of the clip; 0 where nobody speaks
    teacher-said.npy    bool [N, 45]          frames where somebody speaks
    teacher-clip.npy    float16 [N, 192]      mean and spread over the voice; 0 for rows without
Both are principal components of the outputs of the first three of its blocks, of unit spread.
"""

import os

# a process for each core, and one thread in each: more would wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import csv
import importlib.util
import sys
import time
import wave
from functools import partial
from importlib.metadata import distribution
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from data import VALIDATION_SPEAKERS

RATE = 16_000
STEP = 320  # samples between two of the teacher's frames
LONGEST = 400  # of its frames: 8 s
LENGTHS = (200, 300, LONGEST)  # a clip is heard in the shortest of these that holds it
LAYERS = ("add_146", "add_268", "add_390")  # outputs of the first three blocks
WIDTH = 384
FRAMES = 45
FRAME_TARGETS, CLIP_TARGETS = 96, 192
FOLDER = "pipecat/audio/turn/smart_turn"


def package_file(name: str) -> Path:
    return Path(str(distribution("pipecat-ai").locate_file(f"{FOLDER}/{name}")))


class Teacher:
    """The first three blocks of the encoder, one session for each length."""

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("whisper_features", package_file("_whisper_features.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.log_mel = module.compute_whisper_log_mel_features
        self.sessions = {length: session(length) for length in LENGTHS}

    def hear(self, samples: np.ndarray) -> np.ndarray:
        """Samples at 16 kHz -> [T, 3 * 384], a row for each 20 ms; of more than 8 s the first 8."""
        samples = samples[: LONGEST * STEP]
        own = -(-len(samples) // STEP)
        length = next(n for n in LENGTHS if own <= n)
        # the encoder was trained on clips that end where the speaker does
        padded = np.pad(samples, (LONGEST * STEP - len(samples), 0))
        features = self.log_mel(padded, do_normalize=True)[None, :, -2 * length :].astype(np.float32)
        outputs = self.sessions[length].run(list(LAYERS), {"input_features": features})
        return np.concatenate([layer[0, -own:] for layer in outputs], 1)


def session(length: int) -> onnxruntime.InferenceSession:
    """The encoder, cut after its third block and to `length` frames at the end of its 8 s."""
    model = onnx.load(package_file("data/smart-turn-v3.2-cpu.onnx"))
    del model.graph.output[:]
    for name in LAYERS:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("embed_positions.weight"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[-length:], tensor.name))
        elif tensor.data_type == onnx.TensorProto.INT64:  # shapes
            shape = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.where(shape == LONGEST, length, shape), tensor.name))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2 * length
    del model.graph.value_info[:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768.0


def spoken(samples: np.ndarray) -> np.ndarray:
    """Which of the teacher's frames hold the voice: those within 40 dB of the loudest."""
    padded = np.pad(samples, (0, -len(samples) % STEP)).reshape(-1, STEP)
    power = np.square(padded).mean(1)
    return power > max(power.max() * 1e-4, 1e-9)


def bins(heard: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of 20 ms -> the clip's 45 frames, whatever it lasts: means of the voice [45, d], and whether it is in each."""
    edges = np.linspace(0.0, len(heard), FRAMES + 1)
    first = np.floor(edges[:-1]).astype(int)
    end = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    sums = np.pad(np.cumsum(heard * said[:, None], 0, dtype=np.float64), ((1, 0), (0, 0)))
    counts = np.pad(np.cumsum(said), (1, 0))
    inside = counts[end] - counts[first]
    return (sums[end] - sums[first]) / np.maximum(inside, 1)[:, None], inside > 0


_teacher: Teacher | None = None


def of_clip(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Frames [45, 1152], where somebody speaks [45], and the clip [2304]; none if nobody does."""
    global _teacher
    _teacher = _teacher or Teacher()
    samples = read(path)[: LONGEST * STEP]
    said = spoken(samples)
    if said.sum() < 10:
        return None
    heard = _teacher.hear(samples)
    voice = heard[said.argmax() : len(said) - said[::-1].argmax()]
    frames, where = bins(heard, said)
    return frames.astype(np.float16), where, np.concatenate([voice.mean(0), voice.std(0)]).astype(np.float16)


def answer(path: Path, maps: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """A row of each of the three arrays; none if nobody speaks."""
    heard = of_clip(path)
    if heard is None:
        return None
    (frames, said, clip), (frame_mean, frame_map, clip_mean, clip_map) = heard, maps
    frames = ((frames - frame_mean) @ frame_map) * said[:, None]
    return frames.astype(np.float16), said, ((clip - clip_mean) @ clip_map).astype(np.float16)


def components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n, d] -> their mean [d] and a map [d, count] to principal components of unit spread.

    Each column counts alike first: a few of the encoder's channels are a hundred times as loud as the rest.
    """
    rows = rows.astype(np.float64)
    mean, scale = rows.mean(0), 1.0 / (rows.std(0) + 1e-6)
    covariance = np.cov((rows - mean) * scale, rowvar=False)
    variance, axes = np.linalg.eigh(covariance)
    variance, axes = variance[::-1][:count], axes[:, ::-1][:, :count]
    return mean.astype(np.float32), (scale[:, None] * axes / np.sqrt(variance)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mix", type=Path, help="folder of `undertone corpus mix --dry`")
    parser.add_argument("features", type=Path, help="folder of `undertone corpus features` of that mix; the targets go there")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: %(default)s")
    parser.add_argument("--sample", type=int, default=4000, help="clips that the components are found on (default: %(default)s)")
    arguments = parser.parse_args()
    with open(arguments.features / "index.csv", encoding="utf-8") as file:
        index = list(csv.DictReader(file))
    voices = [n for n, line in enumerate(index) if line["kind"] != "background"]
    if not voices or not (arguments.mix / "dry" / index[voices[0]]["path"]).exists():
        sys.exit(f"{arguments.mix}/dry has no clips of {arguments.features}; make them with `undertone corpus mix --dry`")
    paths = {n: arguments.mix / "dry" / index[n]["path"] for n in voices}
    frames = np.zeros((len(index), FRAMES, FRAME_TARGETS), np.float16)
    said = np.zeros((len(index), FRAMES), bool)
    clips = np.zeros((len(index), CLIP_TARGETS), np.float16)
    known = [n for n in voices if index[n]["kind"] == "utterance" and index[n]["speaker"] not in VALIDATION_SPEAKERS]
    chosen = np.random.default_rng(0).choice(known, min(arguments.sample, len(known)), replace=False)
    started = time.monotonic()
    with Pool(arguments.processes) as pool:
        sample = [s for s in pool.imap(of_clip, [paths[n] for n in chosen], 16) if s]
        frame_mean, frame_map = components(np.concatenate([f[w] for f, w, _ in sample]), FRAME_TARGETS)
        clip_mean, clip_map = components(np.stack([c for _, _, c in sample]), CLIP_TARGETS)
        del sample
        told = pool.imap(partial(answer, maps=(frame_mean, frame_map, clip_mean, clip_map)), paths.values(), 16)
        for count, (n, row) in enumerate(zip(voices, told, strict=True), 1):
            if row:
                frames[n], said[n], clips[n] = row
            if count % 500 == 0:
                left = (time.monotonic() - started) / count * (len(voices) - count)
                print(f"\r{count} of {len(voices)} clips, {left / 60:.0f} min left ", end="", flush=True)
    print()
    for name, array in (("frames", frames), ("said", said), ("clip", clips)):
        np.save(arguments.features / f"teacher-{name}.npy", array)


if __name__ == "__main__":
    main()
