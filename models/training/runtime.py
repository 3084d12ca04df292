"""How the process uses the machine."""

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
