"""How the process uses the machine, and what its command line says of that and of its settings."""

import argparse
import ctypes

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def quicken(threads: int) -> None:
    """Set the thread count, and keep freed memory in the process.

    By default glibc returns each large tensor to the system, and the page faults of the
    next one take a fifth of the training time. Elsewhere than on glibc this does nothing.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(M_TOP_PAD, 256 << 20)


def parsed(parser: argparse.ArgumentParser, settings: dict[str, tuple]) -> argparse.Namespace:
    """The command line of look.py and emotions.py, with a flag for each of `settings`, whose values are (default, help)."""
    parser.add_argument("--everything", action="store_true", help="learn from the validation speakers and utterances too: their figures then mean nothing")
    parser.add_argument("--threads", type=int, default=1)
    for name, (default, text) in settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    return parser.parse_args()
