#!/usr/bin/env python3
"""Run Silero VAD or WebRTC VAD over the recordings of a timeline.

    detect.py silero TIMELINE_FOLDER OUT.csv [--min-silence SECONDS]
    detect.py webrtc TIMELINE_FOLDER OUT.csv

OUT.csv has recording,start_s,end_s,told_s,cpu_s, which `undertone evaluate --timeline FOLDER --segments
OUT.csv` scores; a line with start and told_s but no end is a beginning that was thrown away as too short. Both detectors run as a stream would feed them, one thread, each with the settings that its
own package has by default: told_s is the audio heard when speech is told.
"""

import argparse
import csv
import time
from collections import deque
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import soundfile

RATE = 16_000
BLOCK = 512 * 15 * 64  # samples read at once: whole chunks of Silero and whole frames of WebRTC


# Start, end (none: it was too short for a segment), and the seconds that were heard when it was told.
Segment = tuple[float, float | None, float]


class Silero:
    """The ONNX file of the package, with the rules and defaults of its `get_speech_timestamps`."""

    CHUNK = 512
    CONTEXT = 64
    ONSET, OFFSET = 0.5, 0.35
    MIN_SPEECH, PAD = 0.25, 0.03

    def __init__(self, min_silence: float):
        import numpy
        import onnxruntime

        self.np = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = Path(find_spec("silero_vad").submodule_search_locations[0]) / "data" / "silero_vad.onnx"
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.rate = numpy.array(RATE, dtype=numpy.int64)
        self.min_silence = min_silence
        self.reset()

    def reset(self) -> None:
        self.state = self.np.zeros((2, 1, 128), dtype=self.np.float32)
        self.context = self.np.zeros(self.CONTEXT, dtype=self.np.float32)
        self.at = 0  # samples heard
        self.start = self.silence = self.told = None
        self.rest = self.np.zeros(0, dtype=self.np.float32)  # less than a chunk

    def feed(self, pcm: bytes) -> Iterator[Segment]:
        """Segments that are over by the end of these samples."""
        samples = self.np.frombuffer(pcm, dtype=self.np.int16).astype(self.np.float32) / 32768
        samples = self.np.concatenate([self.rest, samples])
        whole = len(samples) - len(samples) % self.CHUNK
        self.rest = samples[whole:]
        for begin in range(0, whole, self.CHUNK):
            chunk = samples[begin : begin + self.CHUNK]
            x = self.np.concatenate([self.context, chunk])[None]
            speech, self.state = self.session.run(None, {"input": x, "state": self.state, "sr": self.rate})
            self.context = chunk[-self.CONTEXT :]
            yield from self.judge(float(speech[0, 0]))

    def judge(self, speech: float) -> Iterator[Segment]:
        now, self.at = self.at / RATE, self.at + self.CHUNK
        if speech >= self.ONSET:
            if self.start is None:
                self.start, self.told = now, self.at / RATE
            self.silence = None
        elif speech < self.OFFSET and self.start is not None:
            self.silence = now if self.silence is None else self.silence
            # From the beginning of the first silent chunk to that of this one, as the package counts.
            if now - self.silence >= self.min_silence:
                yield from self.end(self.silence)

    def end(self, end: float) -> Iterator[Segment]:
        if self.start is not None and end - self.start > self.MIN_SPEECH:
            yield max(0.0, self.start - self.PAD), end + self.PAD, self.told
        elif self.start is not None:
            yield self.start, None, self.told
        self.start = self.silence = None

    def finish(self) -> Iterator[Segment]:
        length = self.at + len(self.rest)
        if len(self.rest):
            yield from self.feed(bytes(2 * (self.CHUNK - len(self.rest))))
        yield from self.end(length / RATE)


class WebRtc:
    """Strictest mode; segments as its package's example collects them.

    Speech begins when more than 90 % of the last 300 ms are voiced (and reaches back over them), and
    ends when more than 90 % of them are not.
    """

    FRAME = 480  # 30 ms
    WINDOW = 10
    SHARE = 0.9

    def __init__(self):
        import webrtcvad

        self.new = lambda: webrtcvad.Vad(3)
        self.reset()

    def reset(self) -> None:
        self.vad = self.new()
        self.last = deque(maxlen=self.WINDOW)
        self.at = 0
        self.start = self.told = None

    def feed(self, pcm: bytes) -> Iterator[Segment]:
        step = 2 * self.FRAME
        for begin in range(0, len(pcm) - step + 1, step):
            self.last.append(self.vad.is_speech(pcm[begin : begin + step], RATE))
            self.at += self.FRAME
            voiced = sum(self.last)
            if self.start is None and voiced > self.SHARE * self.WINDOW:
                self.start, self.told = (self.at - len(self.last) * self.FRAME) / RATE, self.at / RATE
                self.last.clear()
            elif self.start is not None and len(self.last) - voiced > self.SHARE * self.WINDOW:
                yield self.start, self.at / RATE, self.told
                self.start = None
                self.last.clear()

    def finish(self) -> Iterator[Segment]:
        if self.start is not None:
            yield self.start, self.at / RATE, self.told


def detect(detector: Silero | WebRtc, path: Path) -> tuple[list[Segment], float]:
    """All segments of a recording, and the processor seconds that they took."""
    detector.reset()
    segments = []
    cpu = 0.0
    with soundfile.SoundFile(path) as recording:
        if (recording.samplerate, recording.channels, recording.subtype) != (RATE, 1, "PCM_16"):
            raise SystemExit(f"{path}: only 16-bit mono at {RATE} Hz is read here")
        while pcm := recording.read(BLOCK, dtype="int16").tobytes():
            begun = time.process_time()
            segments += detector.feed(pcm)
            cpu += time.process_time() - begun
    return segments + list(detector.finish()), cpu


def write(detector: Silero | WebRtc, timeline: Path, out: Path) -> None:
    """What the detector finds in all recordings of a timeline, as CSV."""
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "start_s", "end_s", "told_s", "cpu_s"])
        for path in recordings(timeline):
            segments, cpu = detect(detector, path)
            for start, end, told in segments:
                writer.writerow([path.name, f"{start:.3f}", "" if end is None else f"{end:.3f}", f"{told:.3f}", ""])
            writer.writerow([path.name, "", "", "", f"{cpu:.3f}"])


def recordings(timeline: Path) -> list[Path]:
    """The recordings that its labels tell of."""
    labels = timeline / "labels.csv"
    if not labels.exists():
        raise SystemExit(f"{labels} is not there; `undertone corpus timeline` makes it")
    with labels.open(newline="", encoding="utf-8") as file:
        return sorted({timeline / line["recording"] for line in csv.DictReader(file)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", choices=["silero", "webrtc"])
    parser.add_argument("timeline", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--min-silence", type=float, default=0.1, help="Silero: shorter pauses do not end a segment")
    args = parser.parse_args()
    detector = Silero(args.min_silence) if args.detector == "silero" else WebRtc()
    write(detector, args.timeline, args.out)


if __name__ == "__main__":
    main()
