"""Float32 that is float32: on a GPU, convolutions would otherwise round their inputs to 10 bits (TF32)."""

from contextlib import AbstractContextManager

import torch


def exact_float32() -> AbstractContextManager:
    """A context in which cuDNN computes in float32, by deterministic algorithms; no effect on a CPU.

    Example:
        >>> with exact_float32():
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
