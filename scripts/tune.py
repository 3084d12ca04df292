#!/usr/bin/env python3
"""How well speech is localized on a timeline, for every combination of settings: a line each, best first.

    scripts/tune.py TIMELINE onset=0.8,0.9,0.95 background_veto=0.7,0.9 [--stream] [--undertone PROGRAM]

Keys are those of [cascade], or `section.key`. Choose on validation data, never on a test split (docs/localization.md
says how such a timeline is made). The daemon's own cascade runs, once for each combination: some seconds for each hour
of audio. Needs nothing but Python.

Columns hold 20 / 10 / 5 / 0 dB where they hold several figures. The order: targets that are missed, then false wakes on
household background. --stream: as the daemon listens with asr.mode = "stream".
"""

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# At 20, 10 and 5 dB: the least or the most of each figure, in the report's unit.
AT_LEAST = {"found": (0.995, 0.98, 0.95), "captured": (0.98, 0.96, 0.90)}
AT_MOST = {
    "not_speech": (0.05, 0.08, 0.12),
    "onset_ms.median": (60, 80, 120),
    "onset_ms.p95": (200, 300, 400),
}
STREAM = 'hook = "command"\ncommand = ["true"]\nmode = "stream"\n'


def settings(texts: list[str]) -> list[dict[str, str]]:
    """Every combination of `key=value,value` arguments."""
    keys = []
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals:
            raise SystemExit(f"{text}: write key=value,value")
        keys.append([(key if "." in key else f"cascade.{key}", value) for value in values.split(",")])
    return [dict(chosen) for chosen in itertools.product(*keys)]


def toml(chosen: dict[str, str], stream: bool) -> str:
    sections: dict[str, str] = {"asr": STREAM} if stream else {}
    for key, value in chosen.items():
        section, _, name = key.rpartition(".")
        sections[section] = sections.get(section, "") + f"{name} = {value}\n"
    return "".join(f"[{section}]\n{lines}" for section, lines in sections.items())


def evaluate(undertone: str, timeline: Path, chosen: dict[str, str], stream: bool) -> dict:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(toml(chosen, stream))
        file.flush()
        command = [undertone, "evaluate", "--timeline", str(timeline), "--json", "--config", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{chosen}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def value(group: dict, name: str) -> float:
    """A figure; not a number where there was nothing to measure, which meets no target."""
    for part in name.split("."):
        group = group[part]
    return math.nan if group is None else group


def missed(report: dict) -> list[str]:
    """The targets that these figures miss."""
    out = []
    for place, db in enumerate((20, 10, 5)):
        group = next((g for g in report["snr"] if g["snr_db"] == db), None)
        if group is None:
            continue
        out += [f"{name}@{db}" for name, least in AT_LEAST.items() if not value(group, name) >= least[place]]
        out += [f"{name}@{db}" for name, most in AT_MOST.items() if not value(group, name) <= most[place]]
    quiet = report["background"]
    out += ["steady"] if quiet["steady"]["wakes"] else []
    out += ["household"] if (quiet["household"]["wakes_per_hour"] or 0) > 1 else []
    return out


def line(chosen: dict[str, str], report: dict) -> str:
    groups = [g for g in report["snr"] if g["snr_db"] is not None]

    def row(name: str, scale: float, digits: int) -> str:
        return " / ".join(f"{scale * value(g, name):.{digits}f}" for g in groups)

    told = [g["told_ms"] for g in groups if g["told_ms"]["n"]]
    median = sorted(t["median"] for t in told)[len(told) // 2] if told else 0
    quiet = report["background"]
    return (
        " ".join(f"{k.removeprefix('cascade.')}={v}" for k, v in chosen.items())
        + f"\n    found {row('found', 100, 1)}  captured {row('captured', 100, 1)}  not speech {row('not_speech', 100, 1)}"
        + f"\n    onset {row('onset_ms.median', 1, 0)}, 95th {row('onset_ms.p95', 1, 0)} ms"
        + f"  offset {row('offset_ms.median', 1, 0)} ms  emotion {row('emotion', 100, 0)}"
        + f"\n    told {median:.0f}, 95th {row('told_ms.p95', 1, 0)} ms"
        + "  false wakes an hour: "
        + ", ".join(
            f"{kind} {q['wakes_per_hour']:.1f} ({q['starts_per_hour']:.1f} starts)" for kind, q in quiet.items() if q["hours"]
        )
        + f"  {report['cpu_ms_per_second']:.2f} ms CPU a second"
        + f"\n    missed targets: {' '.join(missed(report)) or 'none'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("timeline", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE,VALUE")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--undertone", default="target/release/undertone")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_intermixed_args()
    chosen = settings(args.settings)
    with ThreadPoolExecutor(args.jobs) as pool:
        reports = pool.map(lambda c: evaluate(args.undertone, args.timeline, c, args.stream), chosen)
        done = []
        for c, report in zip(chosen, reports, strict=True):
            print(f"\r{len(done) + 1} of {len(chosen)}", end="", file=sys.stderr, flush=True)
            done.append((c, report))
    print(file=sys.stderr)
    done.sort(key=lambda d: (len(missed(d[1])), d[1]["background"]["household"]["wakes_per_hour"]))
    print(f"{done[0][1]['source']}, {done[0][1]['audio_seconds'] / 3600:.1f} h")
    for c, report in done:
        print(line(c, report))


if __name__ == "__main__":
    main()
