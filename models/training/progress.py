"""What training shows: a bar on a terminal, plain lines elsewhere, and a JSON-lines log."""

import json
import sys
import time
from pathlib import Path


def clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{minutes} min"


class Count:
    """Tells how many of all are done, and how long the rest will take: in place on a terminal, in a line a minute elsewhere."""

    def __init__(self, total: int, what: str):
        self.total, self.what = total, what
        self.terminal = sys.stdout.isatty()
        self.begun = self.told = time.monotonic()

    def reach(self, done: int) -> None:
        """`done` of all, at least 1."""
        now = time.monotonic()
        if done < self.total and now - self.told < (0.5 if self.terminal else 60.0):
            return
        self.told = now
        left = clock((now - self.begun) / done * (self.total - done))
        text = f"{done} of {self.total} {self.what}" + (f", {left} left" if done < self.total else "")
        if self.terminal:
            print(f"\r{text}\033[K", end="\n" if done == self.total else "", flush=True)
        else:
            print(text, flush=True)


class Progress:
    """Counts the clips of this run, and tells from them how long the rest will take."""

    def __init__(self, steps: int, batch: int, log: Path, quiet_seconds: float = 60.0):
        self.steps, self.batch, self.log = steps, batch, log
        self.terminal = sys.stdout.isatty()
        self.pause = 0.5 if self.terminal else quiet_seconds
        self.begun = self.told = time.monotonic()
        self.done = 0

    def rate(self) -> float:
        """Clips a second since this run began, evaluation included."""
        return self.done * self.batch / max(1e-9, time.monotonic() - self.begun)

    def left(self, step: int) -> str:
        return clock((self.steps - step) * self.batch / max(1e-9, self.rate()))

    def advance(self, step: int, epoch: str, loss: float | None = None) -> None:
        """`step` of all steps is done."""
        self.done += 1
        if time.monotonic() - self.told < self.pause:
            return
        self.told = time.monotonic()
        text = f"{epoch}  step {step}/{self.steps}  {f'loss {loss:.3f}  ' if loss is not None else ''}{self.rate():.1f} clips/s  {self.left(step)} left"
        if self.terminal:
            filled = 24 * step // self.steps
            print(f"\r[{'#' * filled}{'.' * (24 - filled)}] {text}\033[K", end="", flush=True)
        else:
            print(text, flush=True)

    def tell(self, text: str) -> None:
        print(("\r\033[K" if self.terminal else "") + text, flush=True)

    def record(self, entry: dict) -> None:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
