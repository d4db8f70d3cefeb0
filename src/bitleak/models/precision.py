"""In which precision a device multiplies: float32 that is float32, and who has bfloat16."""

from contextlib import AbstractContextManager

import torch

_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
"""What PyTorch calls the instructions of x86 and ARM processors that multiply in bfloat16."""


def exact_float32() -> AbstractContextManager:
    """A context in which cuDNN computes in float32, by deterministic algorithms; no effect on a CPU.

    On a GPU, convolutions would otherwise round their inputs to 10 bits (TF32).

    Example:
        >>> with exact_float32():
        ...     torch.backends.cudnn.allow_tf32
        False
    """
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def multiplies_in_bfloat16(device: torch.device | str) -> bool:
    """Whether the device has instructions for it, so that autocast makes it faster.

    A processor without them converts back and forth: a training step then takes several times as long as in
    float32. An x86 processor that PyTorch (before 2.10) cannot ask counts as one without.

    Example:
        >>> isinstance(multiplies_in_bfloat16("cpu"), bool)
        True
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in _BFLOAT16)
