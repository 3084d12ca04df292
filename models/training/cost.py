"""Multiply-accumulates of the network, counted from its shape.

Products only: norms, activations and additions are left out, in the modules and in the part
that always runs alike.
"""

import functionals as sound
from model import BACKGROUND, DEPTH, LABELS, ROWS, WINDOWS, Shape
from picture import BANDS, COLUMN, KERNELS, RESIDUAL


def costs(shape: Shape) -> tuple[list[int], int, int]:
    """MACs of each gated module, block-major, of what is never skipped, and of the emotion head."""
    t, d = shape.frames, shape.width
    feed_forward = 2 * t * d * shape.expansion * d
    attention = 4 * t * d * d + 2 * t * t * d + t * (2 * t - 1) * d
    convolution = 3 * t * d * d + t * d * shape.kernel
    modules = [feed_forward, attention, convolution, feed_forward] * shape.blocks
    stem = 2 * t * ROWS * shape.stem * 8 + t * shape.stem * d * 3 + t * d * shape.context + t * d * d
    # Looking again after a block that ran is left out: it is about 1 % of a module.
    gates = t * d + len(modules) * 3 * d
    heads = 6 * t * d + 4 * d * d + d * len(LABELS)
    return modules, stem + gates + heads, emotions(shape) if shape.emotions else 0


def emotions(shape: Shape) -> int:
    """MACs of the emotion head: what it makes of the network, and of the features."""
    numbers = 2 * shape.width * (1 + shape.blocks // DEPTH)
    network = shape.frames * numbers + (numbers + BACKGROUND) * shape.emotions
    moments = sound.MOMENTS * ROWS * WINDOWS + ROWS * WINDOWS
    cepstra = 2 * sound.CEPSTRA * (sound.BANDS + sound.CEPSTRA) * WINDOWS + len(sound.LAGS) * sound.CEPSTRA * WINDOWS
    return network + moments + cepstra + (sound.SIZE + BACKGROUND) * shape.sound + picture(shape.picture)


def picture(channels: int) -> int:
    """MACs of the convolutional network (picture.py)."""
    macs, inputs, rows, columns = 0, 2, BANDS, WINDOWS
    for number, kernel in enumerate(KERNELS):
        outputs, rows, columns = channels << number, -(-rows // 2), -(-columns // 2)
        macs += kernel**2 * inputs * outputs * rows * columns
        macs += 2 * 9 * outputs**2 * rows * columns if number in RESIDUAL else 0
        inputs = outputs
    width = COLUMN * channels
    return macs + columns * width * (rows * inputs + 3) + 2 * width * BACKGROUND
