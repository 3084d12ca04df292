#!/usr/bin/env python3
"""One voice of demo/room.ogg as the other formats that undertone reads, by encoders that are not ours.

    pip install soundfile
    tests/golden/formats/make.py

The voice is CC BY-SA 3.0 (see NOTICE); so are these files.
"""

from pathlib import Path

import soundfile

here = Path(__file__).parent
RATE = 16_000
# Seconds of the room: 3 s of background, a voice, and background again.
START, END = 11.15, 20.0

room, rate = soundfile.read(here.parents[2] / "demo" / "room.ogg")
assert rate == RATE
voice = room[int(START * RATE) : int(END * RATE)]
soundfile.write(here / "voice.flac", voice, RATE, format="FLAC", subtype="PCM_16")
soundfile.write(here / "voice.mp3", voice, RATE, format="MP3")
