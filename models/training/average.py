"""A running average of a network's weights, which generalizes better than the last step's (Polyak)."""

import torch

from model import GatedConformer, Shape


class Average:
    """`state` is the state_dict of the averaged network; batch statistics are averaged too."""

    def __init__(self, model: GatedConformer):
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.updates = 0

    @torch.no_grad()
    def update(self, model: GatedConformer, decay: float) -> None:
        self.updates += 1
        # A young average would remember the random start.
        part = 1.0 - min(decay, self.updates / (self.updates + 10.0))
        mine, theirs = [], []
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                mine.append(self.state[name])
                theirs.append(value)
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(mine, theirs, part)

    def restore(self, state: dict[str, torch.Tensor], updates: int) -> None:
        """Go on from the `state` of another; the tensors stay those of the network's device, wherever that lies."""
        for name, value in self.state.items():
            value.copy_(state[name])
        self.updates = updates

    def network(self, shape: Shape) -> GatedConformer:
        """The averaged network, ready for inference."""
        network = GatedConformer(shape)
        network.load_state_dict(self.state)
        return network.eval()
