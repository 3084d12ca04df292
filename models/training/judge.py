"""A judge of emotions: the teacher's encoder, trained further on labelled voices.

It hears clean voices, knows thousands of speakers from its first training, and in training (`opinion.py`) never those that it
will be asked about: so what it says of a clip does not lean on knowing the voice.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augment import spans
from encoder import WIDTH, pretrained

LENGTH = 200  # encoder frames that a judge hears: 4 s
HEARD = 3  # blocks of the encoder; the fourth knows of turns more than of voices


class Judge(nn.Module):
    """Spectra [B, 80, 2 * LENGTH] and which frames hold the voice [B, LENGTH] -> logits [B, classes]."""

    def __init__(self, classes: int, hidden: int = 256, dropout: float = 0.5):
        super().__init__()
        self.encoder = pretrained()
        del self.encoder.layers[HEARD:]
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(HEARD))
        self.mix = nn.Parameter(torch.zeros(HEARD))
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(2 * WIDTH, hidden)
        self.classes = nn.Linear(hidden, classes)

    def forward(self, spectra: Tensor, said: Tensor) -> Tensor:
        layers = torch.stack([norm(x) for norm, x in zip(self.norms, self.encoder(spectra), strict=True)])
        x = (self.mix.softmax(0)[:, None, None, None] * layers).sum(0).float()
        weight = said.float() / said.sum(1, keepdim=True).clamp(min=1)
        mean = (weight[:, :, None] * x).sum(1)
        spread = (weight[:, :, None] * (x - mean[:, None]).square()).sum(1).add(1e-5).sqrt()
        pooled = self.dropout(torch.cat([mean, spread], 1))
        return self.classes(self.dropout(F.silu(self.hidden(pooled))))

    def groups(self, rate: float, decay: float) -> list[dict]:
        """The pretrained layers learn at a tenth of the rate."""
        old = list(self.encoder.parameters())
        new = [p for name, p in self.named_parameters() if not name.startswith("encoder.")]
        return [
            {"params": old, "lr": 0.1 * rate, "weight_decay": decay},
            {"params": new, "lr": rate, "weight_decay": decay},
        ]


@dataclass(frozen=True)
class Schooling:
    """How a judge is trained."""

    clips: int = 60_000
    batch: int = 64
    rate: float = 1e-3
    decay: float = 0.05
    smoothing: float = 0.1
    mixed: float = 0.4  # of Beta(mixed, mixed), in whose shares pairs of clips are mixed (Zhang et al. 2018)


def masked(spectra: Tensor, bands: int = 12, frames: int = 40, count: int = 2) -> Tensor:
    """SpecAugment (Park et al. 2019): spans of bands and of time are silenced."""
    for axis, widest in ((1, bands), (2, frames)):
        hidden = spans(len(spectra), spectra.shape[axis], widest, count, spectra.device)
        spectra = spectra.masked_fill(hidden.unsqueeze(3 - axis), -0.5)
    return spectra
