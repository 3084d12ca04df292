"""Feature folders as `undertone corpus features` writes them, and what an epoch draws from them.

A folder holds features.npy (float16 [N, 80, 360]), frames.npy (int8 [N, 90]), index.csv
(one line a row) and features.json (the feature configuration); teacher.py and opinion.py
add what a teacher hears in each row.
"""

import csv
import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from model import BACKGROUND, LABELS, ROWS, WINDOWS

NO_LABEL = -1
IGNORED_FRAME = -1

# Speakers of the train split that are never trained on, and noise sources whose background alone is not; every choice
# (epochs, losses, the released seed) is made on them and never on a test split. But `corpus mix` lays all noise of the split
# under all its utterances, so nearly a tenth of the clips with speech that are trained on carry noise of these sources.
VALIDATION_SPEAKERS = frozenset(
    {"emodb-10", "ravdess-05", "ravdess-20", "nemo-MP0", "FirdawsM/Whitescape", "raulmabe/focus"}
)

VALIDATIONS = ("validation", "validation_seen")
HELD_SHARE = 0.08  # of the utterances of speakers that are trained on

# What teacher.py and opinion.py write, in this order.
TEACHER = ("frames", "said", "clip", "class")

# `undertone corpus mix` numbers the variants of an utterance at the end of their names.
VARIANT = re.compile(r"-\d+(\.\w+)?$")


class DataError(Exception):
    """A feature folder that cannot be used; the message says what is wrong with it."""


@dataclass
class Table:
    """The rows of all folders, column by column; every column has length N."""

    features: list[np.ndarray]  # memory-mapped, one a folder
    frames: list[np.ndarray]
    folder: np.ndarray
    row: np.ndarray  # row within its folder
    label: np.ndarray  # index into LABELS, NO_LABEL where too little speech is inside
    kind: np.ndarray  # utterance, window, background
    corpus: np.ndarray
    speaker: np.ndarray
    utterance: np.ndarray  # the same for all rows of one utterance
    split: np.ndarray
    configuration: dict
    digest: str  # sha256 over the index.csv files
    lessons: list[tuple[np.ndarray, ...]]  # one a folder: TEACHER's arrays; empty if a folder has none

    def __len__(self) -> int:
        return len(self.row)

    def rows(self, split: str) -> np.ndarray:
        """Rows of `train`, of `validation` (VALIDATION_SPEAKERS of the train split, which are never trained on),
        of `validation_seen` (utterances of the others that are not either), of `everything` in the train split but the
        background of validation sources, or of another split of the manifest. Validated is on the first folder alone: others add to what is
        learnt from, such as converted voices (convert.py)."""
        if split not in ("train", "everything", *VALIDATIONS):
            return np.flatnonzero(self.split == split)
        apart, voice, train = np.isin(self.speaker, list(VALIDATION_SPEAKERS)), self.kind != "background", self.split == "train"
        if split == "everything":
            return np.flatnonzero(train & (voice | ~apart))
        held = ~apart & voice & np.array([held_back(name) for name in self.utterance], bool)
        chosen = {"train": ~apart & ~held, "validation": apart, "validation_seen": held}[split]
        first = (self.folder == 0) | (split == "train")
        return np.flatnonzero(train & chosen & first)

    def without(self, corpus: str, rows: np.ndarray) -> np.ndarray:
        """These rows but for those of one corpus, if one is named."""
        if corpus and corpus not in set(self.corpus[rows]):
            raise DataError(f"no row is of {corpus}, to be left out; there are {', '.join(sorted(set(self.corpus[rows])))}")
        return rows[self.corpus[rows] != corpus]

    def corpora(self, rows: np.ndarray) -> dict[str, list[str]]:
        """The corpora that these rows are of, voices and background apart."""
        noise = self.kind[rows] == "background"
        return {name: sorted(map(str, set(self.corpus[rows[own]]))) for name, own in (("voices", ~noise), ("background", noise))}

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features float32 [B, 80, 360], frames int8 [B, T], labels int64 [B]."""
        places = list(zip(self.folder[rows], self.row[rows], strict=True))
        features = np.stack([self.features[f][r] for f, r in places]).astype(np.float32)
        frames = np.stack([self.frames[f][r] for f, r in places])
        return features, frames, self.label[rows]

    def lesson(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """What the teacher hears: frames float32 [B, 45, F], where somebody speaks [B, 45], clip [B, C], class [B, 6]."""
        places = list(zip(self.folder[rows], self.row[rows], strict=True))
        frames, said, clip, opinion = (np.stack([self.lessons[f][n][r] for f, r in places]) for n in range(len(TEACHER)))
        return frames.astype(np.float32), said, clip.astype(np.float32), opinion.astype(np.float32)


def digest_of(folders: list[Path]) -> str:
    """What tells the rows of these folders from others: sha256 over their index.csv files."""
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(read(folder / "index.csv").encode())
    return digest.hexdigest()


def together(*learnt: dict[str, list[str]]) -> dict[str, list[str]]:
    """Several of `Table.corpora` as one; an older checkpoint has none."""
    return {name: sorted({corpus for own in learnt for corpus in own.get(name, [])}) for name in ("voices", "background")}


def load(folders: list[Path]) -> Table:
    """Read one or several feature folders; their feature configurations must be equal."""
    columns: dict[str, list] = {
        name: [] for name in ("folder", "row", "label", "kind", "corpus", "speaker", "utterance", "split")
    }
    features, frames, lessons, configuration = [], [], [], None
    for number, folder in enumerate(folders):
        own = json.loads(read(folder / "features.json"))
        if configuration not in (None, own):
            raise DataError(f"{folder}: features.json differs from that of {folders[0]}")
        configuration = own
        lines = list(csv.DictReader(read(folder / "index.csv").splitlines()))
        features.append(load_array(folder / "features.npy", (len(lines), ROWS, WINDOWS)))
        frames.append(load_array(folder / "frames.npy", (len(lines), WINDOWS // 4)))
        lessons += [own] if (own := load_lesson(folder, len(lines))) else []
        for line in lines:
            columns["folder"].append(number)
            columns["row"].append(int(line["row"]))
            columns["label"].append(label_of(line, folder))
            columns["utterance"].append(VARIANT.sub("", line["path"]))
            for name in ("kind", "corpus", "speaker", "split"):
                columns[name].append(line[name])
    arrays = {name: np.array(values) for name, values in columns.items()}
    lessons = lessons if len(lessons) == len(folders) else []
    return Table(features, frames, **arrays, configuration=configuration, digest=digest_of(folders), lessons=lessons)


def load_lesson(folder: Path, rows: int) -> tuple[np.ndarray, ...] | None:
    paths = [folder / f"teacher-{name}.npy" for name in TEACHER]
    if not all(path.exists() for path in paths):
        return None
    arrays = tuple(np.load(path, mmap_mode="r") for path in paths)
    if any(len(array) != rows for array in arrays):
        raise DataError(f"{folder}: the teacher's arrays are of other rows; run teacher.py again")
    return arrays


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; make the folder with `undertone corpus features`") from error


def save_array(path: Path, array: np.ndarray) -> None:
    """Write beside and rename, so that what is broken off leaves no part that passes for whole."""
    part = path.with_name(f"{path.name}.part")
    with open(part, "wb") as file:
        np.save(file, array)
    os.replace(part, path)


def load_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    if array.shape != shape:
        raise DataError(f"{path}: shape {array.shape}, but index.csv asks for {shape}")
    return array


@lru_cache(maxsize=None)
def held_back(utterance: str) -> bool:
    """Whether an utterance is never trained on, though its speaker is: told by a hash of its name, always the same."""
    return hashlib.sha256(utterance.encode()).digest()[0] < 256 * HELD_SHARE


def label_of(line: dict, folder: Path) -> int:
    emotion = line["emotion"]
    if not emotion:
        return NO_LABEL
    if emotion not in LABELS:
        raise DataError(f"{folder}/index.csv, row {line['row']}: emotion {emotion!r} is none of {', '.join(LABELS)}")
    return LABELS.index(emotion)


@dataclass
class Utterance:
    """The rows that hold one utterance, in other noise and at other places."""

    whole: np.ndarray
    windows: np.ndarray


@dataclass(frozen=True)
class Mix:
    """What an epoch is made of."""

    windows: float = 0.5  # share of the utterances that come a second time, as a window
    background: float = 0.2  # share of background in all clips
    balance: float = 0.5  # corpora of n utterances get a share as n ** balance: 1 natural, 0 equal


class Sampler:
    """Draws the rows of an epoch: about every utterance once, in a random variant; or `utterances` of them, some more often or not at all."""

    def __init__(self, table: Table, rows: np.ndarray, mix: Mix, utterances: int = 0):
        self.mix = mix
        self.corpora: dict[str, list[Utterance]] = {}
        self.backgrounds: dict[str, np.ndarray] = {}
        speech = rows[table.kind[rows] != "background"]
        for corpus in np.unique(table.corpus[speech]):
            own = speech[table.corpus[speech] == corpus]
            own = own[np.argsort(table.utterance[own], kind="stable")]
            starts = np.unique(table.utterance[own], return_index=True)[1]
            groups = np.split(own, starts[1:])
            self.corpora[str(corpus)] = [
                Utterance(g[table.kind[g] == "utterance"], g[table.kind[g] == "window"]) for g in groups
            ]
        noise = rows[table.label[rows] == BACKGROUND]
        for corpus in np.unique(table.corpus[noise]):
            self.backgrounds[str(corpus)] = noise[table.corpus[noise] == corpus]
        if not self.corpora or not self.backgrounds:
            raise DataError("training needs both utterances and background in the train split")
        if any(not u.whole.size for utterances in self.corpora.values() for u in utterances):
            raise DataError("every utterance needs at least one row of kind `utterance`")
        self.utterances = utterances or sum(map(len, self.corpora.values()))

    def clips(self) -> int:
        """How many clips an epoch has; the same for each epoch."""
        return len(self.epoch(np.random.default_rng(0)))

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Row numbers in random order."""
        speech: list[int] = []
        quotas = shares({name: len(u) for name, u in self.corpora.items()}, self.utterances, self.mix.balance)
        for name, utterances in self.corpora.items():
            drawn = rounds(len(utterances), quotas[name], rng)
            speech += [rng.choice(utterances[u].whole) for u in drawn]
            # windows in an order of their own, so that every utterance gets its turn
            for u in rounds(len(utterances), round(self.mix.windows * quotas[name]), rng):
                windows = utterances[u].windows
                speech.append(rng.choice(windows if windows.size else utterances[u].whole))
        wanted = round(len(speech) * self.mix.background / (1.0 - self.mix.background))
        quotas = shares({name: len(r) for name, r in self.backgrounds.items()}, wanted, self.mix.balance)
        noise = [rows[rounds(len(rows), quotas[name], rng)] for name, rows in self.backgrounds.items()]
        return rng.permutation(np.concatenate([np.array(speech, dtype=np.int64), *noise]))


def shares(sizes: dict[str, int], total: int, balance: float) -> dict[str, int]:
    """Split `total` over the groups in proportion to size ** balance."""
    weights = {name: size**balance for name, size in sizes.items()}
    return {name: round(total * weight / sum(weights.values())) for name, weight in weights.items()}


def rounds(count: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` numbers below `count`: whole random permutations one after another."""
    turns = -(-wanted // count)
    return np.concatenate([rng.permutation(count) for _ in range(turns)] or [np.array([], int)])[:wanted]
