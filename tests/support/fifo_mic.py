#!/usr/bin/env python3
"""fifo_mic.py FIFO SECONDS: a quiet hum, 16 kHz mono float, at the pace of a sound card.

ALSA's file plugin reads the FIFO as if it were a microphone. 200 ms are written at a time, and each
only when the one before it was read: what the plugin cannot read at once it fills with silence."""
import array, fcntl, os, sys, termios, time

fifo, seconds = sys.argv[1], float(sys.argv[2])
writer = os.open(fifo, os.O_RDWR)  # never waits for a reader, nor dies when one leaves
block = array.array("f", [((k % 160) / 160 - 0.5) * 1e-3 for k in range(3200)]).tobytes()
waiting = array.array("i", [0])
begun = time.monotonic()
for k in range(int(seconds * 5)):
    while True:
        fcntl.ioctl(writer, termios.FIONREAD, waiting)
        if waiting[0] == 0 or time.monotonic() - begun > seconds:
            break
        time.sleep(0.002)
    os.write(writer, block)
    time.sleep(max(0.0, begun + (k + 1) * 0.2 - time.monotonic()) if waiting[0] == 0 else 0)
