"""A training step that a GPU repeats by itself."""

from collections.abc import Callable

import torch


class Recorded:
    """Runs `step`; on a GPU it is recorded as a CUDA graph after some turns, and replayed from then on.

    A step of this network is some thousand small kernels, which take the CPU longer to ask for than the GPU to
    compute. What `step` reads and writes must lie in the same tensors each time, and no shape may depend on values.
    """

    def __init__(self, step: Callable[[], None], device: torch.device, turns: int = 3):
        self.step, self.device, self.turns = step, device, turns
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.device.type != "cuda":
            self.step()
        elif self.turns > 0:
            self.turns -= 1
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                self.step()
            torch.cuda.current_stream().wait_stream(beside)
        else:
            if self.graph is None:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self.step()
                self.graph = graph
            self.graph.replay()
