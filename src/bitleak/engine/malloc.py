"""A worker's memory stays its own: freed tensors are used again instead of being given back to the
kernel.
"""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of `mallopt`, as in glibc's malloc.h."""

GROWTH = 64 << 20
"""Bytes by which the heap grows at a time."""

_SETTINGS = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: GROWTH}


def keep_freed_memory() -> bool:
    """Make malloc of this process keep freed memory; False if the C library has no such setting.

    By default, glibc takes every large array from the kernel and gives it back when it is freed.
    The kernel clears each page when it is first touched: a fifth of the time of a training step,
    whose activations are megabytes each and the same in every step. The price is that the process
    keeps its peak until it ends. It concerns the whole process, so that only one that is ours alone
    should call this.

    References:
        mallopt(3)
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    taken = [mallopt(name, value) for name, value in _SETTINGS.items()]
    return all(answer == 1 for answer in taken)
