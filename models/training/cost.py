"""Multiply-accumulates of the network, counted from its shape.

Products only: norms, activations and additions are left out, in the modules and in the part
that always runs alike.
"""

from model import BACKGROUND, DEPTH, LABELS, ROWS, Shape


def costs(shape: Shape) -> tuple[list[int], int]:
    """MACs of each gated module, block-major, and of what is never skipped."""
    t, d = shape.frames, shape.width
    feed_forward = 2 * t * d * shape.expansion * d
    attention = 4 * t * d * d + 2 * t * t * d + t * (2 * t - 1) * d
    convolution = 3 * t * d * d + t * d * shape.kernel
    modules = [feed_forward, attention, convolution, feed_forward] * shape.blocks
    stem = 2 * t * ROWS * shape.stem * 8 + t * shape.stem * d * 3 + t * d * shape.context + t * d * d
    # Looking again after a block that ran is left out: it is 0.1 % of a module.
    gates = t * d + len(modules) * 3 * d
    heads = 6 * t * d + 4 * d * d + d * len(LABELS)
    depths = 1 + shape.blocks // DEPTH
    # The emotion head is left out on background; it is counted as if it always ran.
    emotions = 2 * t * d * depths + (2 * d * depths + BACKGROUND) * shape.emotions if shape.emotions else 0
    return modules, stem + gates + heads + emotions
