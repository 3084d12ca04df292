#!/usr/bin/env python3
"""How a listener who does not know the speaker would judge each clip.

    opinion.py MIX FEATURES     after `undertone corpus mix --dry` and `undertone corpus features`

A judge (judge.py) learns the emotions from clean voices, several times, each time without a part of the speakers; those are
then judged by it. Such opinions say which clips are hard to tell apart, which a label does not, and they cannot lean on
knowing a voice. No judge of a speaker that is trained on has heard the validation speakers; they are judged by one who has
heard all the others, which is also the figure that tells how good a teacher this is.
Where they contradict the label they are left out: they are wrong there, and cost what is known of a voice (EXPERIMENTS.md).
Writes FEATURES/teacher-class.npy, float16 [N, 6]: log probabilities of the emotions, the same for all clips of an utterance; 0 where
nobody speaks or the opinion is left out.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data import NO_LABEL, VALIDATION_SPEAKERS, Table, load
from encoder import STEP, Spectra
from judge import LENGTH, Judge, Schooling, masked
from model import BACKGROUND
from objective import learning_rate
from recorded import Recorded
from runtime import quicken
from teacher import LEAST
from voices import MixError, batches, ending_together, paths, spoken

EMOTIONS = BACKGROUND  # the labels before it
PARTS = 5


@dataclass
class Voices:
    """What judges hear: the voice of each clip that has one, up to 4 s of it."""

    rows: np.ndarray  # of the table
    spectra: Tensor  # float16 [V, 80, 2 * LENGTH]
    said: Tensor  # bool [V, LENGTH] from the voice's start
    label: Tensor  # int64 [V], NO_LABEL where there is none


def listen(files: dict[int, Path], table: Table, device: torch.device) -> Voices:
    """All clips with a voice, in the memory of the device."""
    hears = Spectra().to(device)
    rows, spectra, said = [], [], []
    numbers = np.array(list(files))
    for place, clips in batches(list(files.values())):
        frames = [spoken(clip) for clip in clips]
        own = [n for n, f in enumerate(frames) if f.sum() >= LEAST]
        if not own:
            continue
        cut = [clips[n][frames[n].argmax() * STEP : (len(frames[n]) - frames[n][::-1].argmax()) * STEP][: LENGTH * STEP] for n in own]
        spectra.append(hears(torch.from_numpy(ending_together(cut)).to(device), LENGTH).half())
        from_start = torch.tensor([LENGTH - -(-len(clip) // STEP) for clip in cut])
        said.append((torch.arange(LENGTH) >= from_start[:, None]).to(device))
        rows.append(numbers[place][own])
    found = np.concatenate(rows)
    return Voices(found, torch.cat(spectra), torch.cat(said), torch.from_numpy(table.label[found]).to(device))


class School:
    """Trains one judge on some of the voices."""

    def __init__(self, voices: Voices, schooling: Schooling, seed: int):
        self.voices, self.schooling = voices, schooling
        device = voices.spectra.device
        torch.manual_seed(seed)
        self.judge = Judge(EMOTIONS).to(device)
        self.judge.train()
        apart = {"fused": True, "capturable": True} if device.type == "cuda" else {}
        self.optimizer = torch.optim.AdamW(self.judge.groups(schooling.rate, schooling.decay), **apart)
        self.speeds = [group["lr"] / schooling.rate for group in self.optimizer.param_groups]
        self.rates = [torch.zeros((), device=device) for _ in self.speeds]
        self.rows = torch.zeros(schooling.batch, dtype=torch.int64, device=device)
        self.other = torch.zeros(schooling.batch, dtype=torch.int64, device=device)
        self.share = torch.ones((), device=device)
        self.step = Recorded(self.learn, device)

    def learn(self) -> None:
        """One step on mixtures of `rows` with `other`, positions within `rows`."""
        spectra, said = masked(self.voices.spectra[self.rows].float()), self.voices.said[self.rows]
        labels = F.one_hot(self.voices.label[self.rows], EMOTIONS).float()
        spectra = torch.lerp(spectra[self.other], spectra, self.share)
        labels = torch.lerp(labels[self.other], labels, self.share)
        with torch.autocast(spectra.device.type, torch.bfloat16):
            logits = self.judge(spectra, said | said[self.other])
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.schooling.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.judge.parameters(), 1.0)
        self.optimizer.step()

    def teach(self, places: np.ndarray, chances: np.ndarray, rng: np.random.Generator) -> Judge:
        steps, recorded = max(1, self.schooling.clips // self.schooling.batch), self.rows.is_cuda
        for step in range(steps):
            rate = learning_rate(step, steps, self.schooling.rate)
            for group, own, speed in zip(self.optimizer.param_groups, self.rates, self.speeds, strict=True):
                group["lr"] = own.fill_(rate * speed) if recorded else rate * speed
            self.rows.copy_(torch.from_numpy(rng.choice(places, self.schooling.batch, p=chances)))
            self.other.copy_(torch.from_numpy(rng.permutation(self.schooling.batch)))
            self.share.fill_(rng.beta(self.schooling.mixed, self.schooling.mixed))
            self.step()
        return self.judge.eval()


def chances(table: Table, rows: np.ndarray) -> np.ndarray:
    """Chances of the rows, so that a corpus of n clips is drawn in proportion to the root of n."""
    _, corpus, sizes = np.unique(table.corpus[rows], return_inverse=True, return_counts=True)
    chances = 1.0 / np.sqrt(sizes[corpus])
    return chances / chances.sum()


def parts(table: Table, rows: np.ndarray, count: int = PARTS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of (speakers to learn from, speakers to judge): the rows' speakers in groups, each with some of every corpus, and last
    the validation speakers."""
    found = sorted({(corpus, speaker) for corpus, speaker in zip(table.corpus[rows], table.speaker[rows], strict=True)})
    known = [speaker for _, speaker in found if speaker not in VALIDATION_SPEAKERS]
    for part in range(count):
        judged = known[part::count]
        yield np.array([s for s in known if s not in judged]), np.array(judged)
    yield np.array(known), np.array([s for _, s in found if s in VALIDATION_SPEAKERS])


def judged(judge: Judge, voices: Voices, places: np.ndarray, batch: int = 256) -> np.ndarray:
    """Log probabilities of the emotions [n, 6]."""
    told = []
    with torch.inference_mode(), torch.autocast(voices.spectra.device.type, torch.bfloat16):
        for start in range(0, len(places), batch):
            own = torch.from_numpy(places[start : start + batch]).to(voices.spectra.device)
            told.append(judge(voices.spectra[own].float(), voices.said[own]).float().log_softmax(1).cpu().numpy())
    return np.concatenate(told)


def agreed(table: Table, opinions: np.ndarray) -> np.ndarray:
    """Opinions on clips [N, 6] -> on utterances, the mean of what is said of their clips; 0 where that contradicts the label."""
    told, found = (opinions != 0).any(1), np.zeros_like(opinions)
    _, utterance = np.unique(table.utterance[told], return_inverse=True)
    sums = np.zeros((utterance.max(initial=-1) + 1, opinions.shape[1]))
    np.add.at(sums, utterance, np.exp(opinions[told].astype(np.float64)))
    found[told] = np.log(sums / sums.sum(1, keepdims=True))[utterance]
    label = table.label
    found[(label >= 0) & (label < EMOTIONS) & (found.argmax(1) != label)] = 0
    return found


def right(table: Table, rows: np.ndarray, opinion: np.ndarray) -> dict[str, float]:
    """Share of labelled utterances that are judged as labelled, by corpus, in %."""
    own = (table.label[rows] != NO_LABEL) & (table.kind[rows] == "utterance")
    good, corpus = opinion[own].argmax(1) == table.label[rows[own]], table.corpus[rows[own]]
    return {str(c): round(100 * float(good[corpus == c].mean()), 1) for c in np.unique(corpus)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mix", type=Path, help="folder of `undertone corpus mix --dry`")
    parser.add_argument("features", type=Path, help="folder of `undertone corpus features` of that mix")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    parser.add_argument("--clips", type=int, default=Schooling().clips, help="that each judge learns from (default: %(default)s)")
    parser.add_argument("--judges", type=int, default=2, help="for each part of the speakers; their mean counts (default: %(default)s)")
    arguments = parser.parse_args()
    quicken(arguments.threads)
    try:
        table, files = load([arguments.features]), paths(arguments.mix, arguments.features)
    except MixError as error:
        sys.exit(str(error))
    train = {n: path for n, path in files.items() if table.split[n] == "train"}
    voices = listen(train, table, torch.device(arguments.device))
    labelled = ~np.isin(table.label[voices.rows], (NO_LABEL, BACKGROUND)) & ~np.isin(voices.rows, table.rows("validation_seen"))
    opinions = np.zeros((len(table), EMOTIONS), np.float16)
    for number, (learnt, asked) in enumerate(parts(table, voices.rows)):
        places = np.flatnonzero(np.isin(table.speaker[voices.rows], learnt) & labelled)
        own = np.flatnonzero(np.isin(table.speaker[voices.rows], asked))
        told = []
        for turn in range(arguments.judges):
            seed = number * 100 + turn
            school = School(voices, Schooling(clips=arguments.clips), seed)
            judge = school.teach(places, chances(table, voices.rows[places]), np.random.default_rng(seed))
            told.append(np.exp(judged(judge, voices, own)))
            alone = right(table, voices.rows[own], told[-1])
            print(f"part {number + 1} of {PARTS + 1}, judge {turn + 1}: unknown speakers judged right, %: {alone}", flush=True)
        mean = np.log(np.mean(told, 0))
        opinions[voices.rows[own]] = mean
        print(f"part {number + 1} of {PARTS + 1}: together {right(table, voices.rows[own], mean)}", flush=True)
    opinions = agreed(table, opinions)
    print(f"{(opinions != 0).any(1).sum()} of {len(voices.rows)} clips with an opinion that does not contradict the label")
    np.save(arguments.features / "teacher-class.npy", opinions)


if __name__ == "__main__":
    main()
