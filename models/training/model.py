"""The gated Conformer: features of one window in, emotion, speech frames and gates out.

Shapes: B clips, 80 feature rows (40 log-mel, 40 delta), 360 feature windows, T = 45
frames of 80 ms with two speech answers each, d = 120 channels, M = 4 * blocks modules in the order ff1, attention,
convolution, ff2 of block 0, then of block 1, and so on.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import functionals
from modules import Attention, Convolution, FeedForward
from picture import Picture

LABELS = ("neutral", "happy", "fear", "disgust", "anger", "sad", "background")
BACKGROUND = LABELS.index("background")
MODULES = ("ff1", "attention", "convolution", "ff2")
ROWS = 80
WINDOWS = 360
STRIDE = 8
SPEECH_FRAMES = 90  # of 40 ms
DEPTH = 8  # blocks between two places where the emotion is listened for
OUTLIER = 6.0  # spreads from the mean, where what a listener hears is cut
SOUND_SHARE, PICTURE_SHARE = 0.2, 0.3  # of the functionals and of the picture in the emotion, beside what the network hears


@dataclass(frozen=True)
class Shape:
    """The sizes of a network; tests use smaller ones than the shipped model."""

    blocks: int = 16
    width: int = 120
    heads: int = 4
    kernel: int = 31
    expansion: int = 4
    stem: int = 48
    context: int = 9
    frames: int = WINDOWS // STRIDE
    dropout: float = 0.1
    head_dropout: float = 0.2
    emotions: int = 0  # hidden units of the emotion head that listens to the network; 0: no such head, as long as the network is trained
    sound: int = 192  # hidden units of the one that listens to the sound itself
    picture: int = 16  # channels of the first convolution of the one that sees the features as a picture

    def to_dict(self) -> dict:
        return asdict(self)


class Output(NamedTuple):
    logits: Tensor  # [B, 7]
    speech: Tensor  # [B, 90] logit of speech in each 40 ms
    p_execute: Tensor  # [B, M] P(execute); 1 where gating is off
    executed: Tensor  # [B, M] 1 where the module's update was added, else 0
    frames: Tensor  # [B, T, d] what the heads see
    pooled: Tensor  # [B, 4d] what the class head sees
    depths: list[Tensor]  # [B, T, d] each: the stem and every DEPTH-th block
    judged: Tensor  # [B] 1 where the odds among the emotions are the emotion head's, else 0


def statistics(x: Tensor) -> Tensor:
    """Mean and spread over time, [B, T, d] -> [B, 2d] (Snyder et al. 2018, x-vectors)."""
    return torch.cat([x.mean(1), spread(x, x.mean(1, keepdim=True))], 1)


def spread(x: Tensor, mean: Tensor) -> Tensor:
    """The standard deviation over time; its gradient is 0 where nothing varies."""
    return torch.linalg.vector_norm(x - mean, dim=1) * x.shape[1] ** -0.5


def summary(x: Tensor) -> Tensor:
    """What a gate looks at, [B, T, d] -> [B, 3d]: mean, spread and maximum over time.

    Half a second of speech hardly moves the mean of 3.6 s; it does move the maximum.
    """
    return torch.cat([statistics(x), x.amax(1)], 1)


class Stem(nn.Module):
    """Raw features [B, 80, 8T] -> [B, T, d], at an eighth of the rate; never skipped.

    The paper has a quarter; an eighth halves the cost of every module. Two strided
    convolutions, then one over 0.7 s of context in each channel, so that the first gates can
    tell speech from a noise without any module having run.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.register_buffer("mean", torch.zeros(ROWS, 1))
        self.register_buffer("scale", torch.ones(ROWS, 1))
        self.first = nn.Conv1d(ROWS, shape.stem, 8, stride=4, padding=2)
        self.second = nn.Conv1d(shape.stem, shape.width, 3, stride=2, padding=1)
        self.context = nn.Conv1d(shape.width, shape.width, shape.context, padding=shape.context // 2, groups=shape.width)
        self.mix = nn.Linear(shape.width, shape.width)
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, features: Tensor) -> Tensor:
        x = (features - self.mean) * self.scale
        x = F.silu(self.second(F.silu(self.first(x))))
        around = self.mix(F.silu(self.context(x)).transpose(1, 2))
        return self.norm((x.transpose(1, 2) + around).float())


# Whether a module runs where there are no gates: for all clips of a batch or none, or 1 or 0 for each, [B].
Keep = bool | Tensor


class Step(NamedTuple):
    """What a block hands on: its output and the summary of it; P(execute) and what ran, [B, 4]."""

    x: Tensor
    pooled: Tensor
    p_execute: Tensor
    executed: Tensor


class Block(nn.Module):
    """Feed-forward, attention, convolution, feed-forward, each behind a gate.

    The four gates are asked together, from the summary of the block's input. The norm that
    closes a Conformer block is left to the heads: without it nothing at all happens between
    two skipped modules, so one product decides all gates of a skipped stretch of blocks.
    """

    def __init__(self, shape: Shape, open_logit: float = 3.0):
        super().__init__()
        self.bodies = nn.ModuleList((FeedForward(shape), Attention(shape), Convolution(shape), FeedForward(shape)))
        self.gate = nn.Linear(3 * shape.width, len(MODULES))  # log odds of execute against skip
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, open_logit)

    def odds(self, pooled: Tensor) -> Tensor:
        """Summary [B, 3d] -> log odds of execute [B, 4], in 32 bits."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self.gate(pooled)

    def sampled(self, x: Tensor, pooled: Tensor, temperature: float, keep: list[Tensor] | None = None) -> Step:
        """Training: straight-through Gumbel-softmax samples decide (Jang et al. 2017), and `keep`, 1 or 0 for each clip.

        For two choices the difference of two Gumbel variables is one logistic variable.
        """
        odds = self.odds(pooled)
        uniform = torch.rand_like(odds).clamp(1e-6, 1.0 - 1e-6)
        soft = ((odds + uniform.logit()) / temperature).sigmoid()
        gates = (soft > 0.5).float() + soft - soft.detach()
        if keep is not None:
            gates = gates * torch.stack(keep, 1)
        for gate, body in zip(gates.unbind(1), self.bodies, strict=True):
            x = x + gate[:, None, None] * body(x)
        return Step(x, summary(x), odds.sigmoid(), gates.detach())

    def thresholded(self, x: Tensor, pooled: Tensor, threshold: float) -> Step:
        """Inference: a body is computed only for the clips whose P exceeds the threshold."""
        p = self.odds(pooled).sigmoid()
        run = p > threshold
        for own, body in zip(run.unbind(1), self.bodies, strict=True):
            clips = own.nonzero()[:, 0]
            if clips.numel():
                x = x.index_add(0, clips, body(x[clips]).to(x.dtype))
        return Step(x, summary(x) if run.any() else pooled, p, run.to(p.dtype))

    def always(self, x: Tensor, pooled: Tensor, keep: list[Keep]) -> Step:
        """Training without gates; bodies that no clip keeps are not computed."""
        ran = torch.zeros(x.shape[0], len(keep), device=x.device)
        for place, (kept, body) in enumerate(zip(keep, self.bodies, strict=True)):
            if kept is False:
                continue
            x = x + (body(x) if kept is True else kept[:, None, None] * body(x))
            ran[:, place] = 1.0 if kept is True else kept
        return Step(x, pooled, torch.ones_like(ran), ran)


class Heads(nn.Module):
    """Speech in each frame; and one class, from frames pooled by learnt attention and from the stem."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.speech = nn.Linear(shape.width, SPEECH_FRAMES * STRIDE // WINDOWS)
        self.attend = nn.Linear(shape.width, 1)
        self.hidden = nn.Linear(4 * shape.width, shape.width)
        self.dropout = nn.Dropout(shape.head_dropout)
        self.classes = nn.Linear(shape.width, len(LABELS))

    def forward(self, x: Tensor, stem: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Last block's output [B, T, d] and the stem's statistics [B, 2d] -> logits [B, 7], speech [B, 90], frames, pooled."""
        x = self.norm(x.float())
        with torch.autocast(x.device.type, enabled=False):
            weights = self.attend(x).softmax(1)
            mean = (weights * x).sum(1)
            deviation = (weights * x.square()).sum(1).sub(mean.square()).clamp(min=0.0).add(1e-5).sqrt()
            pooled = torch.cat([mean, deviation, stem], 1)
            logits = self.classes(self.dropout(F.silu(self.hidden(self.dropout(pooled)))))
            return logits, self.speech(x).flatten(1), x, pooled


class Listener(nn.Module):
    """Numbers that describe a clip [B, n] -> log probabilities of the emotions [B, 6], by one hidden layer."""

    def __init__(self, size: int, hidden: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.hidden = nn.Linear(size, hidden)
        self.classes = nn.Linear(hidden, BACKGROUND)

    def even(self, clips: Tensor) -> Tensor:
        """Centred, to a spread of 1, without outliers."""
        return ((clips - self.mean) * self.scale).clamp(-OUTLIER, OUTLIER)

    def forward(self, clips: Tensor) -> Tensor:
        return self.classes(F.silu(self.hidden(self.even(clips)))).log_softmax(1)


class Emotions(nn.Module):
    """Which emotion, of clips that reached the last blocks and hold `somebody`: three opinions, mixed.

    One listens to the stem and to what each eighth block makes of it. The class head sees the end of the network only, which
    a teacher has led (pupil.py); what tells the voices that one knows lies further in front, too. The others have
    the features themselves: by functionals, and as a picture. All are learnt after everything else, or beside it (emotions.py, look.py).
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.network = Listener(2 * shape.width * (1 + shape.blocks // DEPTH), shape.emotions)
        self.sound = Listener(functionals.SIZE, shape.sound)
        self.picture = Picture(shape.picture, BACKGROUND)

    def forward(self, heard: Tensor, sound: Tensor, features: Tensor) -> Tensor:
        """Statistics of `heard`, functionals, features -> odds of the emotions [B, 6] (they need not sum up to 1)."""
        seen = self.picture(features).log_softmax(1)
        return (1.0 - SOUND_SHARE - PICTURE_SHARE) * self.network(heard) + SOUND_SHARE * self.sound(sound) + PICTURE_SHARE * seen


def voiced(speech: Tensor, frames: int) -> Tensor:
    """Logits of the speech head [B, 90] -> what each of `frames` weighs, as P(speech) in it, in sum 1: [B, 1, T]."""
    weight = speech.sigmoid().unflatten(1, (frames, -1)).mean(2) + 1e-3
    return (weight / weight.sum(1, keepdim=True))[:, None]


def heard(depths: list[Tensor], weight: Tensor) -> Tensor:
    """Mean and spread at each depth ([B, T, d] each) over frames of this weight [B, 1, T]: [B, 2 d depths]."""
    x = torch.cat(depths, 2).float()
    mean = weight @ x
    spread = (weight @ (x - mean).square() + 1e-6).sqrt()
    return torch.cat([mean, spread], 2)[:, 0]


def somebody(logits: Tensor) -> Tensor:
    """Logits [B, 7] -> whether some voice is likelier than none, bool [B]: else no emotion is told, so none is asked for."""
    return logits[:, :BACKGROUND].logsumexp(1) > logits[:, BACKGROUND]


def told(logits: Tensor, emotions: Tensor, asked: Tensor) -> Tensor:
    """Logits [B, 7] in which the clips that are `asked` about (bool [B]) have these odds [B, 6] among the emotions.

    Whether anybody speaks at all is not touched: P(background) stays what it was.
    """
    someone = logits[:, :BACKGROUND].logsumexp(1, keepdim=True)
    instead = torch.cat([emotions.log_softmax(1) + someone, logits[:, BACKGROUND:]], 1)
    return torch.where(asked[:, None], instead, logits)


class GatedConformer(nn.Module):
    """Stem, gated blocks, heads."""

    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.stem = Stem(shape)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.heads = Heads(shape)
        self.emotions = Emotions(shape) if shape.emotions else None

    def gate_parameters(self) -> list[nn.Parameter]:
        return [p for block in self.blocks for p in block.gate.parameters()]

    def forward(self, features: Tensor, threshold: float = 0.5) -> Output:
        """Inference with hard gates: a module runs if its P(execute) is above `threshold`."""
        return self.run(features, lambda index, block, x, pooled: block.thresholded(x, pooled, threshold))

    def forward_sampled(self, features: Tensor, temperature: float = 1.0, keep: list[list[Tensor]] | None = None) -> Output:
        """Training with gates; modules whose `keep` [blocks][4] is 0 for a clip are left out, whatever these say."""
        return self.run(features, lambda index, block, x, pooled: block.sampled(x, pooled, temperature, keep[index] if keep else None))

    def forward_ungated(self, features: Tensor, keep: list[list[Keep]] | None = None) -> Output:
        """Without gates; modules whose `keep` [blocks][4] is false are left out."""
        every = [True] * len(MODULES)
        return self.run(features, lambda index, block, x, pooled: block.always(x, pooled, keep[index] if keep else every))

    def run(self, features: Tensor, advance) -> Output:
        x = self.stem(features)
        pooled = summary(x)
        stem = pooled[:, : 2 * self.shape.width]
        probabilities, executed, depths = [], [], [x]
        for index, block in enumerate(self.blocks):
            x, pooled, p, ran = advance(index, block, x, pooled)
            probabilities.append(p)
            executed.append(ran)
            if (index + 1) % DEPTH == 0:
                depths.append(x)
        logits, speech, frames, pooled = self.heads(x, stem)
        ran = torch.cat(executed, 1)
        asked = torch.zeros_like(ran[:, 0], dtype=torch.bool)
        if self.emotions is not None:
            with torch.autocast(x.device.type, enabled=False):
                asked = (ran[:, -DEPTH * len(MODULES) :].amax(1) > 0) & somebody(logits)
                weight = voiced(speech, x.shape[1])
                emotions = self.emotions(heard(depths, weight), functionals.functionals(features, weight), features)
                logits = told(logits, emotions, asked)
        return Output(logits, speech, torch.cat(probabilities, 1), ran, frames, pooled, depths, asked.to(ran.dtype))
