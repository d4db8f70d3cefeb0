"""Large arrays that are freed are used again, in a process that belongs to the caller.

By default, glibc takes arrays from the kernel that are larger than a threshold, and gives them back when they
are freed; the kernel clears each page when it is first touched. That is up to half of the time of a
small network, whose activations are megabytes each and the same in every batch. The threshold follows
the sizes that a program frees, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), so one freed array of
that size raises it. Unlike `engine.malloc`, which is for workers, no setting of the process changes:
it keeps at most 64 MiB more.
"""

import numpy as np

_LARGEST = (32 << 20) - (64 << 10)
"""Bytes of an array that malloc still counts among those up to 32 MiB."""


def reuse_freed_memory() -> None:
    """Free an array of the largest size that malloc's threshold follows; its pages are never touched."""
    array = np.empty(_LARGEST, np.uint8)
    del array
