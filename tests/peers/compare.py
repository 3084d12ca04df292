#!/usr/bin/env python3
"""undertone, Silero VAD and WebRTC VAD on the same timeline, one after another: a table in Markdown.

    compare.py UNDERTONE TIMELINE_FOLDER

Processor time is that of this run, on this machine: each of them one thread, and nothing else should run.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from detect import Silero, WebRtc, write

MIN_SILENCE = 0.1  # what Silero's package has by default


def report(undertone: str, timeline: Path, *more: str) -> dict:
    command = [undertone, "evaluate", "--json", "--timeline", str(timeline), *more]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def row(name: str, reports: list[dict], cell) -> None:
    print(f"| {name} | " + " | ".join(cell(r) for r in reports) + " |")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    undertone, timeline = sys.argv[1], Path(sys.argv[2])
    reports = [report(undertone, timeline)]
    with tempfile.TemporaryDirectory() as folder:
        for name, detector in (("silero", Silero(MIN_SILENCE)), ("webrtc", WebRtc())):
            out = Path(folder) / f"{name}.csv"
            write(detector, timeline, out)
            reports.append(report(undertone, timeline, "--segments", str(out)))
    groups = [[g for g in r["snr"] if g["snr_db"] is not None] for r in reports]

    def figures(number: int, name: str, part: str | None, scale: float, digits: int) -> str:
        values = (g[name] if part is None else g[name][part] for g in groups[number])
        return " / ".join("-" if v is None else f"{scale * v:.{digits}f}" for v in values)

    ratios = " / ".join(f"{g['snr_db']:.0f}" for g in groups[0])
    print(f"{reports[0]['source']}; {reports[0]['audio_seconds'] / 3600:.1f} h\n")
    print(f"| {ratios} dB | undertone | Silero VAD | WebRTC VAD |\n| --- | --- | --- | --- |")
    print("| utterances | " + " / ".join(str(g["utterances"]) for g in groups[0]) + " | | |")
    rows = [(name, key, None, 100, 1) for name, key in (
        ("found, %", "found"), ("merged, %", "merged"), ("split, %", "split"),
        ("speech time captured, %", "captured"), ("captured time that is not speech, %", "not_speech"),
    )]  # fmt: skip
    for name, key in (("onset error", "onset_ms"), ("offset error", "offset_ms"), ("told after onset", "told_ms")):
        rows += [(f"{name}, median, ms", key, "median", 1, 0), (f"{name}, 95th, ms", key, "p95", 1, 0)]
    for name, *what in rows:
        print(f"| {name} | " + " | ".join(figures(n, *what) for n in range(len(reports))) + " |")
    print(f"| emotion right, % of found | {figures(0, 'emotion', None, 100, 1)} | - | - |")
    for kind in ("steady", "household"):
        hours = reports[0]["background"][kind]["hours"]
        for name, key in (("wakes", "wakes_per_hour"), ("starts", "starts_per_hour")):
            row(
                f"false {name} an hour, {kind} ({hours:.2f} h)",
                reports,
                lambda r, kind=kind, key=key: f"{r['background'][kind][key]:.1f}" if hours else "-",
            )
    row("processor time for each second of audio, ms", reports, lambda r: f"{r['cpu_ms_per_second']:.2f}")


if __name__ == "__main__":
    main()
