#!/usr/bin/env python3
"""What a pretrained speech encoder makes of each clip's voice: targets for training to distil.

    teacher.py MIX FEATURES                  after `undertone corpus mix --dry` and `undertone corpus features`
    teacher.py MIX-2 FEATURES-2 --as FEATURES  the same questions of other clips, such as converted voices

The encoder (encoder.py) hears the voice alone (MIX/dry), the network in training the clip with room, noise and microphone:
so the network learns to hear what a network heard that knows many thousands of speakers, and to hear it through the
noise. Nothing of the teacher is in the exported model.

Writes into FEATURES:
    teacher-frames.npy  float16 [N, 45, 96]   the voice in each frame of the clip; 0 where nobody speaks
    teacher-said.npy    bool [N, 45]          frames where somebody speaks
    teacher-clip.npy    float16 [N, 192]      mean and spread over the voice; 0 for rows without
    teacher-maps.npz                          how both are computed
Both are principal components of the outputs of the first three of its blocks, of unit spread.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data import VALIDATION_SPEAKERS, load, save_array
from encoder import LONGEST, STEP, Encoder, Spectra, pretrained
from runtime import quicken
from voices import MixError, batches, ending_together, paths, spoken

HEARD = 3  # blocks
FRAMES = 45
FRAME_TARGETS, CLIP_TARGETS = 96, 192
LENGTHS = (110, 150, 190, 250, 300, LONGEST)  # clips are heard in the shortest of these that holds them all
LEAST = 10  # frames with a voice: 0.2 s


class Heard(NamedTuple):
    """What the encoder makes of a batch; D = 3 * 384."""

    frames: Tensor  # [B, 45, D]
    inside: Tensor  # bool [B, 45]
    clip: Tensor  # [B, 2 * D]


class Teacher:
    """The first three blocks of the encoder."""

    def __init__(self, device: torch.device):
        self.device = device
        self.encoder: Encoder = pretrained().to(device).eval()
        del self.encoder.layers[HEARD:]
        self.spectra = Spectra().to(device)

    def hear(self, samples: np.ndarray, frames: int) -> Tensor:
        """Clips [B, 128000] that end together, the longest of `frames` frames -> [B, T, D], the last T >= frames of 20 ms."""
        length = next(n for n in LENGTHS if frames <= n)
        with torch.inference_mode():
            spectra = self.spectra(torch.from_numpy(samples).to(self.device), length)
            with torch.autocast(self.device.type, torch.bfloat16):
                return torch.cat(self.encoder(spectra), 2)

    def answer(self, clips: list[np.ndarray]) -> Heard:
        own = torch.tensor([-(-len(clip) // STEP) for clip in clips])
        heard = self.hear(ending_together([np.pad(clip, (0, -len(clip) % STEP)) for clip in clips]), int(own.max())).float()
        said = torch.zeros(heard.shape[:2], dtype=torch.bool)
        for row, clip, length in zip(said, clips, own.tolist(), strict=True):
            row[-length:] = torch.from_numpy(spoken(clip))
        said = said.to(self.device)
        frames, inside = bins(heard, said, own.to(self.device))
        return Heard(frames, inside, over_voice(heard, said))


def bins(heard: Tensor, said: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Frames of 20 ms [B, T, D], the last `own` of each clip its own -> its 45 frames, whatever it lasts:
    means of the voice [B, 45, D], and whether it is in each [B, 45]."""
    edges = torch.arange(FRAMES + 1, device=own.device) * own[:, None] / FRAMES
    first = edges[:, :-1].floor().long()
    end = torch.maximum(edges[:, 1:].ceil().long(), first + 1)
    place = torch.arange(heard.shape[1], device=own.device) - (heard.shape[1] - own)[:, None]
    within = (place[:, None] >= first[:, :, None]) & (place[:, None] < end[:, :, None]) & said[:, None]
    count = within.sum(2)
    return within.to(heard.dtype) @ heard / count.clamp(min=1)[:, :, None], count > 0


def over_voice(heard: Tensor, said: Tensor) -> Tensor:
    """Mean and spread from the first spoken frame to the last, [B, 2 * D]; 0 where nobody speaks for long."""
    voice = (said.long().cumsum(1) > 0) & (said.flip(1).long().cumsum(1).flip(1) > 0)
    weight = (voice.float() / voice.sum(1, keepdim=True).clamp(min=1))[:, :, None]
    mean = (weight * heard).sum(1)
    spread = (weight * (heard - mean[:, None]).square()).sum(1).sqrt()
    return torch.cat([mean, spread], 1) * (said.sum(1) >= LEAST)[:, None]


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


def answers(teacher: Teacher, files: list[Path]) -> Iterator[tuple[slice, Heard]]:
    for place, clips in batches(files):
        yield place, teacher.answer(clips)


def fitted(teacher: Teacher, files: list[Path]) -> list[np.ndarray]:
    """Mean and map of the frames, mean and map of the clips."""
    voices, clips = [], []
    for _, heard in answers(teacher, files):
        spoke = heard.clip.any(1)
        voices.append(heard.frames[heard.inside & spoke[:, None]].half().cpu())
        clips.append(heard.clip[spoke].cpu())
    return [*components(torch.cat(voices).numpy(), FRAME_TARGETS), *components(torch.cat(clips).numpy(), CLIP_TARGETS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mix", type=Path, help="folder of `undertone corpus mix --dry`")
    parser.add_argument("features", type=Path, help="folder of `undertone corpus features` of that mix; the targets go there")
    parser.add_argument("--as", dest="like", type=Path, help="the folder of features whose components are meant; else they are found on these clips")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--sample", type=int, default=4000, help="clips that the components are found on (default: %(default)s)")
    arguments = parser.parse_args()
    quicken(arguments.threads)
    try:
        files = paths(arguments.mix, arguments.features)
    except MixError as error:
        sys.exit(str(error))
    table, device = load([arguments.features]), torch.device(arguments.device)
    teacher = Teacher(device)
    if arguments.like:
        with np.load(arguments.like / "teacher-maps.npz") as own:
            maps = list(own.values())
    else:
        known = [n for n in files if table.kind[n] == "utterance" and table.speaker[n] not in VALIDATION_SPEAKERS]
        chosen = np.random.default_rng(0).choice(known, min(arguments.sample, len(known)), replace=False)
        maps = fitted(teacher, [files[n] for n in chosen])
    np.savez(arguments.features / "teacher-maps.npz", *maps)
    frame_mean, frame_map, clip_mean, clip_map = (torch.from_numpy(part).to(device) for part in maps)
    frames = np.zeros((len(table), FRAMES, FRAME_TARGETS), np.float16)
    said = np.zeros((len(table), FRAMES), bool)
    clip = np.zeros((len(table), CLIP_TARGETS), np.float16)
    rows = np.array(sorted(files, key=lambda n: files[n].stat().st_size))  # clips of like length are heard together
    for place, heard in answers(teacher, [files[n] for n in rows]):
        spoke, own = heard.clip.any(1), rows[place]
        inside = heard.inside & spoke[:, None]
        frames[own] = (((heard.frames - frame_mean) @ frame_map) * inside[:, :, None]).half().cpu().numpy()
        said[own] = inside.cpu().numpy()
        clip[own] = (((heard.clip - clip_mean) @ clip_map) * spoke[:, None]).half().cpu().numpy()
    for name, array in (("frames", frames), ("said", said), ("clip", clip)):  # `make train` looks for the last
        save_array(arguments.features / f"teacher-{name}.npy", array)


if __name__ == "__main__":
    main()
