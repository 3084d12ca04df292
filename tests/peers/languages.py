#!/usr/bin/env python3
"""Voices of many languages among household noise: whether they are found, by language. A table in Markdown.

    languages.py UNDERTONE VOICES MANIFEST OUT

VOICES holds what Debian's package klettres-data has in usr/share/klettres (`apt-get download klettres-data && dpkg -x klettres-data_*.deb .`):
people who speak letters and syllables, one or two voices a language. Some of a language in a row, a tenth of a second apart, are
an utterance here, as if somebody spelt. MANIFEST is that of the corpora, whose noise of the split test_unseen is used. A recording of each
language goes to OUT (44 MB each), and stays there.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import soundfile
from compare import report
from detect import Silero, WebRtc, write

NAMES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "en": "English, American", "en_GB": "English, British", "es": "Spanish",
    "fr": "French", "he": "Hebrew", "hu": "Hungarian", "it": "Italian", "lt": "Lithuanian", "ml": "Malayalam", "nb": "Norwegian",
    "nds": "Low German", "nl": "Dutch", "pt_BR": "Portuguese, Brazilian", "ru": "Russian", "tn": "Tswana", "uk": "Ukrainian",
}  # fmt: skip
FLOOR_DB = 18  # what is weaker than this below the loudest 20 ms of a piece is before or after the voice: some were recorded in noise
PAUSE_S = 0.1
LEAST_S = 1.5  # of an utterance
HOURS = 0.4
SEED = 5
SHOWN = ("20", "10", "5", "0")


def voice(path: Path) -> tuple[numpy.ndarray, int]:
    """A piece without what is before and after its voice."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = samples.mean(axis=1)
    frame = rate // 50
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    power = (frames**2).mean(axis=1)
    loud = numpy.flatnonzero(power > power.max(initial=0) * 10 ** (-FLOOR_DB / 10))
    if not len(loud):
        return samples[:0], rate
    return samples[loud[0] * frame : (loud[-1] + 1) * frame], rate


def utterances(folder: Path, draw: numpy.random.Generator):
    """Pieces of one voice in a row, every piece once."""
    for part in sorted({path.parent for path in folder.rglob("*.ogg")}):
        pieces = sorted(part.glob("*.ogg"))
        draw.shuffle(pieces)
        row, seconds = [], 0.0
        for piece in pieces:
            samples, rate = voice(piece)
            loudness = numpy.sqrt((samples**2).mean()) if len(samples) else 0
            if loudness > 0:
                row += [0.05 / loudness * samples, numpy.zeros(int(PAUSE_S * rate), numpy.float32)]
                seconds += len(samples) / rate + PAUSE_S
            if seconds >= LEAST_S:
                yield numpy.concatenate(row[:-1]), rate
                row, seconds = [], 0.0


def recording(undertone: str, folder: Path, manifest: Path, out: Path) -> None:
    """The utterances of one language among noise, as `undertone corpus timeline` makes it."""
    draw = numpy.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as clips, (Path(clips) / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "corpus", "speaker", "emotion", "split"])
        with manifest.open(newline="") as corpora:
            for row in csv.DictReader(corpora):
                if row["emotion"] == "background" and row["split"] == "test_unseen":
                    path = (manifest.parent / row["path"]).resolve()
                    rows.writerow([path, row["corpus"], row["speaker"], row["emotion"], row["split"]])
        for number, (samples, rate) in enumerate(utterances(folder, draw)):
            soundfile.write(Path(clips) / f"{number}.wav", numpy.clip(samples, -1, 1), rate)
            rows.writerow([f"{number}.wav", "klettres", folder.name, "neutral", "test_unseen"])
        file.flush()
        command = [undertone, "corpus", "timeline", "--manifest", file.name, "--hours", str(HOURS), "--seed", str(SEED)]
        subprocess.run([*command, "--out", out], check=True, stdout=subprocess.DEVNULL)


class Sum:
    """Figures of several reports, by how much was said."""

    def __init__(self) -> None:
        self.groups: dict[str, list[tuple[float, float, float]]] = {}

    def add(self, told: dict) -> None:
        for group in told["snr"]:
            if group["snr_db"] is not None and group["utterances"]:
                of = (group["utterances"], group["found"], group["captured"])
                self.groups.setdefault(f"{group['snr_db']:.0f}", []).append(of)

    def mean(self, ratios, which: int) -> float:
        rows = [row for ratio in ratios for row in self.groups.get(ratio, [])]
        return 100 * sum(row[0] * row[which] for row in rows) / sum(row[0] for row in rows)

    def row(self, ratios=SHOWN) -> list[str]:
        return [f"{self.mean(ratios, which):.1f}" for which in (1, 2)]

    def count(self) -> int:
        return sum(row[0] for rows in self.groups.values() for row in rows)


def main() -> None:
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    undertone, (voices, manifest, out) = sys.argv[1], map(Path, sys.argv[2:])
    detectors = {"silero": Silero(0.1), "webrtc": WebRtc()}
    totals = {name: Sum() for name in ("undertone", *detectors)}
    print("| found, of the speech captured, % (20 to 0 dB) | utterances | undertone | Silero VAD | WebRTC VAD |\n| --- | --- | --- | --- | --- |")
    for folder in sorted(path for path in voices.iterdir() if path.name in NAMES):
        timeline = out / folder.name
        if not (timeline / "labels.csv").exists():
            recording(undertone, folder, manifest, timeline)
        own = {name: Sum() for name in totals}
        for name in totals:
            more = []
            if name in detectors:
                segments = out / f"{folder.name}-{name}.csv"
                write(detectors[name], timeline, segments)
                more = ["--segments", str(segments)]
            told = report(undertone, timeline, *more)
            own[name].add(told)
            totals[name].add(told)
        cells = [", ".join(own[name].row()) for name in totals]
        print(f"| {NAMES[folder.name]} | {own['undertone'].count()} | " + " | ".join(cells) + " |", flush=True)
    for ratio in SHOWN:
        cells = [", ".join(totals[name].row([ratio])) for name in totals]
        print(f"| all at {ratio} dB | | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
