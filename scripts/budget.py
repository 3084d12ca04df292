#!/usr/bin/env python3
"""What the daemon costs while nobody speaks: memory, processor time, time to its first decision.

    scripts/budget.py UNDERTONE [--seconds N] [--model FILE]     `make budget` runs it on the release build

Exit status 1: it takes more memory, or more time to its first decision, than it may. Processor time depends so much
on the machine that too much of it is only said.

The real daemon with its own broker hears a room without speech at real speed, from a sound card made of a
FIFO, in the environment that systemd/undertone.service gives it. First steady noise, which its level alone tells; then noise that comes and goes, which the model has
to look at. Processor time is that of the whole process (CLOCK_PROCESS_CPUTIME_ID, from its figures), so the
sound system's thread, MQTT, figures and ONNX Runtime are in it. Memory is what /proc says at the end.
"""

import argparse
import array
import fcntl
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from pathlib import Path

RATE = 48_000
BLOCK = RATE // 5  # 200 ms, as the daemon reads
STAGE = 'stage_seconds_total{stage="%s"}'

# What it may cost.
RESIDENT_MB = 60.0  # at the end; the start needs more for some seconds
FIRST_DECISION_S = 2.0
STEADY_MS = 1.0  # of processor time for a second of steady noise, the whole process


def room(seconds: float, comes_and_goes: bool) -> array.array:
    """Low-passed noise at -50 dBFS; or that, rising by up to 24 dB for a while every two seconds or so."""
    noise, samples, last, gain = random.Random(1), array.array("f"), 0.0, 1.0
    rise = 0.0
    for k in range(int(seconds * RATE)):
        if comes_and_goes and k % RATE == 0:
            rise = noise.choice([0.0, 6.0, 12.0, 24.0])
        gain += 0.0005 * (10 ** (rise / 20) - gain)
        last = 0.8 * last + 0.2 * noise.uniform(-1, 1)
        samples.append(0.016 * gain * last)
    return samples


class Card:
    """Plays a loop of samples into a FIFO at the pace of a sound card; `samples` may be exchanged."""

    def __init__(self, fifo: Path, samples: array.array):
        self.samples = samples
        self.writer = os.open(fifo, os.O_RDWR)  # never waits for a reader, nor dies when one leaves
        threading.Thread(target=self.play, daemon=True).start()

    def play(self) -> None:
        waiting, at = array.array("i", [0]), 0
        due = time.monotonic()
        while True:
            fcntl.ioctl(self.writer, termios.FIONREAD, waiting)
            if waiting[0]:
                time.sleep(0.002)
                continue
            at = at if at + BLOCK <= len(self.samples) else 0
            os.write(self.writer, self.samples[at : at + BLOCK].tobytes())
            at += BLOCK
            due = max(due + BLOCK / RATE, time.monotonic() - 0.4)
            time.sleep(max(0.0, due - time.monotonic()))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def figures(port: int) -> dict[str, float]:
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        return {}
    found = re.findall(r"^undertone_(\S+) (\S+)$", text, re.M)
    return {name: float(value) for name, value in found}


def memory(pid: int) -> dict[str, float]:
    """MB by kind, from the kernel."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {k: int(v) / 1024 for k, v in re.findall(r"^(VmHWM|VmRSS|RssAnon|RssFile):\s+(\d+) kB", text, re.M)}


def parts(pid: int) -> dict[str, float]:
    """Resident MB by what is mapped."""
    total, name = {}, ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = re.match(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$", line)
        if head:
            path = head.group(1)
            name = (
                "ONNX Runtime" if "libonnxruntime" in path
                else "undertone" if path.endswith("/undertone")
                else "other libraries" if path.startswith("/")
                else "heap, stacks"
            )  # fmt: skip
        elif line.startswith("Rss:"):
            total[name] = total.get(name, 0.0) + int(line.split()[1]) / 1024
    return total


def threads(pid: int) -> dict[str, float]:
    """Seconds on a processor, and how often it woke, by name of thread."""
    taken = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        slept = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)
        for key, more in (
            (f"thread {name}", int((task / "schedstat").read_text().split()[0]) / 1e9),
            (f"wakes {name}", int(slept.group(1))),
        ):
            taken[key] = taken.get(key, 0.0) + more
    return taken


def listen(port: int, pid: int, seconds: float) -> dict[str, float]:
    """What it took for so many seconds of sound: each figure's growth."""
    before, were, begun = figures(port), threads(pid), time.monotonic()
    time.sleep(seconds)
    after, are = figures(port), threads(pid)
    growth = {key: are[key] - were.get(key, 0.0) for key in are}
    growth |= {k: after[k] - before.get(k, 0.0) for k in after if k.endswith("_total") or "_total{" in k}
    assert growth["heard_seconds_total"] > 0.8 * (time.monotonic() - begun), "it did not hear all of it"
    return growth


def table(what: str, grown: dict[str, float]) -> str:
    heard = grown["heard_seconds_total"]
    per = lambda key: 1000 * grown.get(key, 0.0) / heard
    judged, quiet = (grown.get(f'windows_total{{how="{how}"}}', 0.0) for how in ("judged", "quiet"))
    stage = lambda name: f"{name} {per(STAGE % name):.2f}"
    stages = ", ".join(map(stage, ("resample", "features", "model")))
    wakes = lambda name: grown[f"wakes {name}"] / heard
    names = sorted(k.removeprefix("thread ") for k in grown if k.startswith("thread "))
    by_thread = ", ".join(f"{name} {per(f'thread {name}'):.2f} ({wakes(name):.0f} wakes)" for name in names)
    return (
        f"{what:<34} {per('cpu_seconds_total'):.2f} ms for each second of sound "
        f"({judged / (judged + quiet or 1):.0%} of {judged + quiet:.0f} windows judged)\n"
        f"{'':<34} by stage: {stages}; by thread: {by_thread}"
    )


def missed(decided: float, steady: dict[str, float], resident: float) -> bool:
    """Says what is beyond the budget; true if it must not be."""
    milliseconds = 1000 * steady["cpu_seconds_total"] / steady["heard_seconds_total"]
    if milliseconds > STEADY_MS:
        print(f"warning: {milliseconds:.2f} ms for a second of steady noise, budget {STEADY_MS} ms")
    over = []
    if decided > FIRST_DECISION_S:
        over.append(f"{decided:.2f} s to the first decision, budget {FIRST_DECISION_S} s")
    if resident > RESIDENT_MB:
        over.append(f"{resident:.1f} MB resident, budget {RESIDENT_MB} MB")
    for what in over:
        print(f"budget: missed: {what}")
    return bool(over)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("undertone", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each kind of sound (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="another model than the one it finds")
    parser.add_argument("--log", action="store_true", help="print the daemon's log, too")
    arguments = parser.parse_args()
    steady, wavering = room(10.0, False), room(20.0, True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port, broker = free_port(), free_port()
        os.mkfifo(folder / "fifo")
        (folder / "asound.conf").write_text(
            'pcm.!default { type file slave.pcm { type null } file "/dev/null" '
            f'infile "{folder}/fifo" format "raw" }}\n'
        )
        (folder / "undertone.toml").write_text(
            f'[consent]\nlistening = "granted"\n[mqtt]\nembedded_listen = "127.0.0.1:{broker}"\n'
            f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
        )
        card = Card(folder / "fifo", steady)
        environment = os.environ | {"ALSA_CONFIG_PATH": f"{folder}/asound.conf", "STATE_DIRECTORY": name}
        unit = Path(__file__).parent.parent / "systemd/undertone.service"
        environment |= dict(re.findall(r"^Environment=(\w+)=(\S+)$", unit.read_text(), re.M))
        if arguments.model:
            environment["UNDERTONE_MODEL"] = str(arguments.model.resolve())
        begun = time.monotonic()
        daemon = subprocess.Popen(
            [arguments.undertone, "run", "--config", folder / "undertone.toml"],
            env=environment, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
        )  # fmt: skip
        try:
            decided = None
            while decided is None:
                seen = figures(port)
                if any(v > 0 for k, v in seen.items() if k.startswith("events_total")):
                    decided = time.monotonic() - begun
                elif time.monotonic() - begun > 60 or daemon.poll() is not None:
                    sys.exit(f"no decision within a minute: {(folder / 'log').read_text()}")
                time.sleep(0.02)
            print(f"start to first decision            {decided:.2f} s")
            time.sleep(10)  # the noise floor settles
            quiet = listen(port, daemon.pid, arguments.seconds)
            print(table("steady noise", quiet))
            card.samples = wavering
            time.sleep(5)
            print(table("noise that comes and goes", listen(port, daemon.pid, arguments.seconds)))
            held = memory(daemon.pid)
            shares = ", ".join(f"{what} {mb:.1f}" for what, mb in sorted(parts(daemon.pid).items()))
            if arguments.log:
                print((folder / "log").read_text())
            print(f"resident                           {held['VmRSS']:.1f} MB ({shares}); at most {held['VmHWM']:.1f}")
            return int(missed(decided, quiet, held["VmRSS"]))
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)


if __name__ == "__main__":
    sys.exit(main())
