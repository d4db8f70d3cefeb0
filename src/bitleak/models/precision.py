"""The precision of products on a device: float32 that is float32, and support of bfloat16.

PyTorch keeps the precision of float32 products in a tree: one setting for all, one per backend, one
per backend and operation. A setting of `none` takes that of the level above.
`torch.set_float32_matmul_precision`, `allow_tf32` and `torch.backends.fp32_precision` write into it
in different places; the older ones raise an error if the newer have made them disagree.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product

import torch

_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
"""PyTorch's names of the instructions of x86 and ARM processors that multiply in bfloat16."""

_ABOVE = (("generic", "all"), ("mkldnn", "all"), ("cuda", "all"))
_OPERATIONS = tuple(product(("mkldnn", "cuda"), ("matmul", "conv", "rnn")))
_EXACT = ("ieee", "none")
"""Settings of an operation that leave float32 as it is; `none` if the levels above do."""


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 products in float32, by cuDNN's deterministic algorithms.

    A context manager, and a decorator.

    Without it, a GPU rounds the inputs of convolutions to 10 bits (TF32), and matrix products and
    convolutions may have 7 bits (bfloat16), also on a CPU, if the caller's settings allow it.
    Autocast of the caller is off as well. All settings are restored afterwards, also those that
    contradict each other.

    Example:
        >>> with exact_float32():
        ...     torch.backends.cudnn.conv.fp32_precision
        'ieee'
    """
    with ExitStack() as stack:
        stack.enter_context(_products("ieee"))
        stack.enter_context(_cudnn(enabled=True, benchmark=False, deterministic=True))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Set the precision at the upper levels, and at operations with a less exact one of their own.

    An operation without a setting of its own is not written to: no value that can be written brings
    back its state.
    """
    before: list[tuple[str, str, str]] = []

    def change(backend: str, operation: str, value: str) -> None:
        before.append((backend, operation, torch._C._get_fp32_precision_getter(backend, operation)))
        torch._C._set_fp32_precision_setter(backend, operation, value)

    try:
        # First, so that the backends' settings are read as they are, not as inherited.
        change(*_ABOVE[0], "none")
        for level in (*_ABOVE[1:], _ABOVE[0]):
            change(*level, precision)
        for level in _OPERATIONS:
            if torch._C._get_fp32_precision_getter(*level) not in _EXACT:
                change(*level, precision)
        yield
    finally:
        for backend, operation, value in reversed(before):
            torch._C._set_fp32_precision_setter(backend, operation, value)


@contextmanager
def _cudnn(**flags: bool) -> Iterator[None]:
    """Set attributes of `torch.backends.cudnn`.

    Its own context reads `allow_tf32`, which may raise an error.
    """
    before: dict[str, bool] = {}
    try:
        for name, value in flags.items():
            before[name] = getattr(torch.backends.cudnn, name)
            setattr(torch.backends.cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(torch.backends.cudnn, name, value)


def multiplies_in_bfloat16(device: torch.device | str) -> bool:
    """Return whether the device has instructions for bfloat16, so that autocast saves time.

    A processor without them converts back and forth: a training step then takes several times as
    long as in float32. An x86 processor that PyTorch (before 2.10) cannot ask counts as one
    without.

    Example:
        >>> isinstance(multiplies_in_bfloat16("cpu"), bool)
        True
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in _BFLOAT16)
