#!/usr/bin/env python3
"""The pictures of docs/tuning.md: what a threshold does to one stretch of a recording.

    scripts/tuning_pictures.py UNDERTONE TIMELINE RECORDING.wav FROM SECONDS docs/pictures

TIMELINE is a folder made by `undertone corpus timeline`; FROM and SECONDS choose a stretch of RECORDING.
Each picture has a row with where speech is, and a row of `analyze --json` for each value of one key.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

# Key, values (the default among them), what to look for.
PICTURES = {
    "onset": ("cascade.onset", [0.1, 0.5, 0.9, 0.99, 0.999], "lower finds more, and more that is no speech"),
    "silence": ("cascade.min_silence_seconds", [0.15, 0.3, 0.6, 1.5, 3.0], "lower tears sentences apart, higher joins them"),
    "veto": ("cascade.background_veto", [0.02, 0.1, 0.3, 0.7, 1.0], "lower withdraws more segments (here with an onset of 0.1)"),
    "margin": ("cascade.energy_margin_db", [0.0, 3.0, 6.0, 12.0, 24.0], "higher spares the model, and misses soft speech"),
    "gate": ("model.gate_threshold", [0.1, 0.3, 0.5, 0.7, 0.9], "higher runs fewer modules"),
}
DEFAULTS = {"cascade.onset": 0.99, "cascade.min_silence_seconds": 0.6, "cascade.background_veto": 0.1,
            "cascade.energy_margin_db": 3.0, "model.gate_threshold": 0.5}  # fmt: skip
WIDTH, LEFT, ROW, RIGHT = 960, 120, 26, 190
COLOURS = {"neutral": "#7a8793", "happy": "#d99a00", "fear": "#7b54b3", "disgust": "#4d8b31", "anger": "#c8442f", "sad": "#2f6fb5"}


def analyze(program: str, recording: Path, key: str, value: float) -> tuple[list, dict]:
    table, name = key.split(".")
    text = f"[{table}]\n{name} = {value}\n"
    if key == "cascade.onset":
        text += f"offset = {min(0.35, round(0.7 * value, 2))}\n"
    if key == "cascade.background_veto":
        text += "onset = 0.1\noffset = 0.07\n"  # at the default there is nothing to withdraw in this stretch
    if key == "cascade.min_silence_seconds":
        text += "post_roll_seconds = 0.3\n"
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        out = subprocess.run([program, "analyze", "--json", "--config", file.name, recording],
                             check=True, capture_output=True, text=True, env=os.environ).stdout  # fmt: skip
    events = [json.loads(line) for line in out.splitlines()]
    return [e for e in events if e["type"] == "emotion"], events[-1]


def bar(x: float, width: float, y: int, colour: str, title: str) -> str:
    return (f'<rect x="{x:.1f}" y="{y + 4}" width="{max(width, 1.0):.1f}" height="{ROW - 8}" rx="2" fill="{colour}">'
            f"<title>{title}</title></rect>")  # fmt: skip


def text(x: float, y: int, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y + 17}" text-anchor="{anchor}" font-weight="{weight}">{words}</text>'


def picture(program: str, cut: Path, seconds: float, truth: list, key: str, values: list, remark: str) -> str:
    scale = (WIDTH - LEFT - RIGHT) / seconds
    rows = [text(0, 0, f"{key}: {remark}", weight="bold"), text(LEFT - 8, ROW, "speech", "end")]
    rows += [bar(LEFT + a * scale, (b - a) * scale, ROW, "#222", f"{a:.1f} to {b:.1f} s") for a, b in truth]
    for number, value in enumerate(values, 2):
        y, (found, summary) = number * ROW, analyze(program, cut, key, value)
        default = " (default)" if value == DEFAULTS[key] else ""
        rows.append(text(LEFT - 8, y, f"{value:g}{default}", "end", "bold" if default else "normal"))
        rows += [bar(LEFT + e["start_s"] * scale, (e["end_s"] - e["start_s"]) * scale, y, COLOURS[e["label"]],
                     f"{e['start_s']:.1f} to {e['end_s']:.1f} s: {e['label']} {e['confidence']:.2f}") for e in found]  # fmt: skip
        cost = f"{summary['modules_run'] / summary['modules_total']:.0%} of modules" if "gate" in key else f"{summary['windows']} windows"
        cost = f"{len(found)} segments, {cost}"
        rows.append(text(WIDTH - RIGHT + 8, y, cost))
    height = (len(values) + 3) * ROW
    y = height - ROW
    for second in range(0, int(seconds) + 1, 10):
        x = LEFT + second * scale
        rows.insert(0, f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ROW}" y2="{y}" stroke="#ddd"/>')
        rows.append(text(x, y - 4, f"{second} s", "middle"))
    body = "\n".join(rows)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n')  # fmt: skip


def main() -> None:
    program, timeline, recording, begin, seconds, target = sys.argv[1:]
    begin, seconds, target = float(begin), float(seconds), Path(target)
    truth = []
    with (Path(timeline) / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            if row["recording"] == recording and row["kind"] == "utterance":
                runs = (run.split("-") for run in row["speech"].split(";") if run)
                truth += [(float(a) - begin, float(b) - begin) for a, b in runs]
    truth = [(max(a, 0.0), min(b, seconds)) for a, b in truth if b > 0 and a < seconds]
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder) / "cut.wav"
        with wave.open(str(Path(timeline) / recording)) as source, wave.open(str(cut), "wb") as part:
            part.setparams(source.getparams())
            source.setpos(int(begin * source.getframerate()))
            part.writeframes(source.readframes(int(seconds * source.getframerate())))
        for name, (key, values, remark) in PICTURES.items():
            (target / f"{name}.svg").write_text(picture(program, cut, seconds, truth, key, values, remark))
            print(target / f"{name}.svg")


if __name__ == "__main__":
    main()
