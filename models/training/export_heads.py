"""The heads of the network as ONNX: speech in each frame, background, and which emotion (model.Heads, model.Emotions)."""

import numpy as np

import functionals as sound
from graph import EXACT, Graph, array
from model import BACKGROUND, LABELS, OUTLIER, PICTURE_SHARE, SOUND_SHARE, SPEECH_FRAMES, WINDOWS, Listener
from picture import BANDS, Picture, Unit


def heads_of(g: Graph, heads, x: str, stem: str) -> tuple[str, str]:
    """Last block's output [T, d] and the stem's statistics [1, 2d] -> logits [1, 7], speech [T, 2]."""
    x = g.layer_norm(x, heads.norm)
    attention = g.op("Transpose", g.linear(x, array(heads.attend.weight), array(heads.attend.bias)), perm=[1, 0])
    weights = g.op("Softmax", attention, axis=-1)
    mean = g.op("MatMul", weights, x)
    square = g.op("MatMul", weights, g.op("Mul", x, x))
    variance = g.op("Max", g.op("Sub", square, g.op("Mul", mean, mean)), g.constant(0.0))
    spread = g.op("Sqrt", g.op("Add", variance, g.constant(1e-5)))
    pooled = g.op("Concat", mean, spread, stem, axis=1)
    hidden = g.silu(g.linear(pooled, array(heads.hidden.weight), array(heads.hidden.bias)))
    logits = g.linear(hidden, array(heads.classes.weight), array(heads.classes.bias))
    speech = g.linear(x, array(heads.speech.weight), array(heads.speech.bias))
    g.op("Reshape", speech, g.integers(1, SPEECH_FRAMES), to="speech")
    return logits, speech


def listener(g: Graph, clip: str, body: Listener) -> str:
    """Numbers that describe a clip [1, n] -> log probabilities of the emotions [1, 6]."""
    even = g.op("Mul", g.op("Sub", clip, g.constant(array(body.mean)[None])), g.constant(array(body.scale)[None]))
    even = g.op("Clip", even, g.constant(-OUTLIER), g.constant(OUTLIER))
    hidden = g.silu(g.linear_small(even, array(body.hidden.weight), array(body.hidden.bias)))
    return g.op("LogSoftmax", g.linear(hidden, array(body.classes.weight), array(body.classes.bias)), axis=1)


def heard_of(g: Graph, depths: list[str], weight: str) -> str:
    """The stem and each eighth block [T, d], the weight of each frame [1, T] -> their mean and spread, [1, 2 d depths]."""
    x = g.op("Concat", *depths, axis=1)
    mean = g.op("MatMul", weight, x)
    away = g.op("Sub", x, mean)
    spread = g.op("Sqrt", g.op("Add", g.op("MatMul", weight, g.op("Mul", away, away)), g.constant(1e-6)))
    return g.op("Concat", mean, spread, axis=1)


def functionals_of(g: Graph, weight: str, frames: int) -> str:
    """The raw features, and the weight of each frame as a column [T, 1] -> functionals [1, n], in the order of functionals.py."""
    rows = g.op("Squeeze", "features", g.integers(0))
    repeat = WINDOWS // frames
    wide = g.op("Reshape", g.op("Expand", g.op("Div", weight, g.constant(float(repeat))), g.integers(frames, repeat)), g.integers(WINDOWS, 1))

    def over(x: str) -> str:
        return g.op("MatMul", x, wide)

    def flat(x: str) -> str:
        return g.op("Reshape", x, g.integers(1, -1))

    mean = over(rows)
    away = g.op("Sub", rows, mean)
    spread = g.op("Sqrt", g.op("Add", over(g.op("Mul", away, away)), g.constant(sound.FLOOR)))
    even = g.op("Div", away, spread)
    square = g.op("Mul", even, even)
    rest = [over(each) for each in (g.op("Mul", square, even), g.op("Mul", square, square), g.op("Abs", even))]
    moments = g.op("Concat", mean, spread, *rest, axis=1)
    count, bands = sound.CEPSTRA, sound.BANDS
    both = g.op("MatMul", g.constant(sound.cosines().numpy(), what=EXACT), g.op("Reshape", away, g.integers(2, bands, WINDOWS)))
    along = g.op("Mul", both, g.op("Reshape", wide, g.integers(1, 1, WINDOWS)))
    products = g.op("MatMul", along, g.op("Transpose", both, perm=[0, 2, 1]))
    products = g.op("Reshape", products, g.integers(2, count * count))
    pairs = g.op("Gather", products, g.integers(*(i * count + j for i, j in sound.PAIRS)), axis=1)
    cepstra, still, own = (g.op("Gather", each, g.constant(0, np.int64), axis=0) for each in (both, along, products))
    power = g.op("Gather", own, g.integers(*range(0, count * count, count + 1)), axis=0)
    power = g.op("Reshape", g.op("Add", power, g.constant(sound.FLOOR)), g.integers(count, 1))
    lagged = []
    for lag in sound.LAGS:
        late = g.op("Slice", still, g.integers(lag), g.integers(WINDOWS), g.integers(1))
        early = g.op("Slice", cepstra, g.integers(0), g.integers(WINDOWS - lag), g.integers(1))
        lagged.append(g.op("Div", g.op("ReduceSum", g.op("Mul", late, early), g.integers(1), keepdims=1), power))
    mel, delta = g.op("Split", rows, outputs=2, axis=0, num_outputs=2)
    late, early = (g.op("Slice", mel, g.integers(a), g.integers(a + WINDOWS - 1), g.integers(1)) for a in (1, 0))
    change = g.op("MatMul", g.op("Abs", g.op("Sub", late, early)), g.op("Slice", wide, g.integers(1), g.integers(WINDOWS), g.integers(0)))
    parts = [moments, pairs, g.op("Concat", *lagged, axis=0), change, over(g.op("Abs", delta))]
    return g.op("Concat", *(flat(part) for part in parts), axis=1)


def unit(g: Graph, x: str, body: Unit, stride: int = 1) -> str:
    """A convolution with its BatchNorm folded in."""
    norm = body.norm
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    weight = array(body.convolution.weight) * scale[:, None, None, None]
    return g.convolved_small(x, weight, array(norm.bias) - array(norm.running_mean) * scale, stride)


def seen_of(g: Graph, body: Picture) -> str:
    """The raw features as a picture -> log probabilities of the emotions [1, 6]."""
    x = g.op("Mul", g.op("Sub", "features", g.constant(array(body.mean)[None])), g.constant(array(body.scale)[None]))
    x = g.op("Reshape", x, g.integers(1, 2, BANDS, WINDOWS))
    for number, own in enumerate(body.units):
        x = g.op("Relu", unit(g, x, own, 2))
        if str(number) in body.residual:
            around = body.residual[str(number)]
            x = g.op("Relu", g.op("Add", x, unit(g, g.op("Relu", unit(g, x, around.first)), around.second)))
    flat = g.op("Reshape", g.op("Transpose", x, perm=[0, 3, 1, 2]), g.integers(-1, body.column.in_features))
    columns = g.silu(g.linear_small(flat, array(body.column.weight), array(body.column.bias)))
    odds = g.op("Transpose", g.linear(columns, array(body.attend.weight), array(body.attend.bias)), perm=[1, 0])
    weight = g.op("Softmax", odds, axis=-1)
    mean = g.op("MatMul", weight, columns)
    away = g.op("Sub", columns, mean)
    spread = g.op("Sqrt", g.op("Add", g.op("MatMul", weight, g.op("Mul", away, away)), g.constant(1e-5)))
    pooled = g.op("Concat", mean, spread, axis=1)
    return g.op("LogSoftmax", g.linear(pooled, array(body.classes.weight), array(body.classes.bias)), axis=1)


def emotions_of(g: Graph, head, depths: list[str], speech: str, classes: tuple[str, str, str], frames: int) -> str:
    """The class head's logits [1, 7], with the odds among the emotions by the emotion head where there is `somebody`."""
    logits, someone, nobody = classes
    weight = g.op("ReduceMean", g.op("Sigmoid", speech), g.integers(1), keepdims=1)
    weight = g.op("Add", weight, g.constant(1e-3))
    weight = g.op("Div", weight, g.op("ReduceSum", weight, g.integers(0), keepdims=1))
    network = listener(g, heard_of(g, depths, g.op("Transpose", weight, perm=[1, 0])), head.network)
    by_sound = listener(g, functionals_of(g, weight, frames), head.sound)
    shares = ((network, 1.0 - SOUND_SHARE - PICTURE_SHARE), (by_sound, SOUND_SHARE), (seen_of(g, head.picture), PICTURE_SHARE))
    own = g.op("LogSoftmax", g.op("Sum", *(g.op("Mul", said, g.constant(share)) for said, share in shares)), axis=1)
    told = g.op("Concat", g.op("Add", own, someone), nobody, axis=1)
    return g.op("Where", g.op("Less", nobody, someone), told, logits)


def somebody(g: Graph, logits: str) -> tuple[str, str, str]:
    """Logits [1, 7] -> these, and the logits of some voice and of none, [1, 1] each."""
    emotions, nobody = g.op("Split", logits, g.integers(BACKGROUND, 1), outputs=2, axis=1)
    return logits, g.op("ReduceLogSumExp", emotions, g.integers(1), keepdims=1), nobody


def asking(g: Graph, reached: str, head, depths: list[str], speech: str, logits: str, frames: int) -> tuple[str, str]:
    """`emotions_of` behind an `If`: logits, and whether they are the emotion head's (bool [1, 1]).

    A clip that the last blocks pass by, or without a voice, keeps the class head's logits, and so does one
    of which the input `emotion` wants none. `reached` is bool [1, 1]: whether one of the last blocks has a gate that opens.
    With a threshold of 0 everything runs, this head, too: so a silent window can take the place of all that a voice left in memory.
    """
    classes = _, someone, nobody = somebody(g, logits)
    wanted, speaks = g.op("And", reached, "emotion"), g.op("Less", nobody, someone)
    judged = g.op("And", wanted, speaks)
    runs = g.op("And", wanted, g.op("Or", speaks, g.op("LessOrEqual", "gate_threshold", g.constant(0.0))))
    run, skip = Graph("emotions_"), Graph("emotions_skip_")
    size = [[1, len(LABELS)]]
    taken = run.branch("run_emotions", [emotions_of(run, head, depths, speech, classes, frames)], size)
    passed = skip.branch("skip_emotions", [skip.op("Identity", logits)], size)
    return g.op("If", runs, then_branch=taken, else_branch=passed), judged
