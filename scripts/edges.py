#!/usr/bin/env python3
"""What happens at the edges of speech: two voices at once, sounds of a home heard alone, speech over music.

    scripts/edges.py CORPORA [--sounds NAME=DIR]... [--music DIR] [--undertone PROGRAM]

CORPORA holds manifest.csv; only its split `test_unseen` is heard. --sounds names a folder of recordings that hold no
speech (coughs, laughter, a vacuum cleaner), --music one of music: Debian's asterisk-moh-opsound-wav has 18 minutes
(`apt-get download asterisk-moh-opsound-wav && dpkg -x asterisk-moh-*.deb music`). Some minutes; needs nothing but
Python. The figures stand in docs/localization.md, "Edges".
"""

import argparse
import csv
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

KINDS = {".wav", ".flac", ".ogg", ".mp3"}
NOISE = "noise_home"


def told(undertone: str, *arguments: object) -> str:
    done = subprocess.run([undertone, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))[:200]}: {done.stderr.strip()}")
    return done.stdout


def alone(undertone: str, name: str, files: list[Path]) -> None:
    """Each recording by itself, as the daemon hears it."""
    if not files:
        raise SystemExit(f"{name}: no recordings")
    seconds = speech = 0.0
    labels: Counter[str] = Counter()
    segments = []
    for line in told(undertone, "analyze", "--json", *files).splitlines():
        event = json.loads(line)
        if event["type"] == "emotion":
            labels[event["label"]] += 1
            speech += event["seconds"]
        elif event["type"] == "summary":
            seconds += event["audio_seconds"]
            segments.append(event["segments"])
    told_in = sum(count > 0 for count in segments)
    print(
        f"{name}: {len(files)} recordings, {seconds:.0f} s: {sum(segments)} segments told, in {told_in} of them, "
        f"{100 * speech / seconds:.1f} % of the time {dict(labels)}"
    )


def timeline(undertone: str, name: str, manifest: Path, *options: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        told(undertone, "corpus", "timeline", "--manifest", manifest, "--out", folder, "--speech", 1, "--seed", 7, *options)
        print(f"{name}:\n{told(undertone, 'evaluate', '--timeline', folder)}")


def over_music(undertone: str, corpora: Path, rows: list[dict[str, str]], music: list[Path]) -> None:
    """Utterances of the corpora in front of music, as television and radio have them."""
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        sheet = csv.DictWriter(file, ["path", "corpus", "speaker", "emotion", "split"], extrasaction="ignore")
        sheet.writeheader()
        for row in rows:
            if row["emotion"] not in ("", "background"):
                sheet.writerow({**row, "path": corpora / row["path"]})
        for path in music:
            common = {"corpus": NOISE, "emotion": "background", "split": "test_unseen"}
            sheet.writerow({"path": path, "speaker": path.stem, **common})
        file.flush()
        timeline(undertone, "speech over music", Path(file.name), "--hours", 0.5)


def recordings(folder: Path) -> list[Path]:
    return sorted(path.resolve() for path in folder.rglob("*") if path.suffix.lower() in KINDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--sounds", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--music", type=Path)
    parser.add_argument("--undertone", default="target/release/undertone")
    args = parser.parse_args()
    corpora = args.corpora.resolve()
    manifest = corpora / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test_unseen"]
    timeline(args.undertone, "two people at once", manifest, "--hours", 0.33, "--overlap", 1)
    for kind in sorted({row["corpus"] for row in rows if row["emotion"] == "background"}):
        alone(args.undertone, kind, [corpora / row["path"] for row in rows if row["corpus"] == kind])
    for text in args.sounds:
        name, _, folder = text.partition("=")
        alone(args.undertone, name, recordings(Path(folder)))
    if args.music:
        music = recordings(args.music)
        alone(args.undertone, "music", music)
        over_music(args.undertone, corpora, rows, music)


if __name__ == "__main__":
    main()
