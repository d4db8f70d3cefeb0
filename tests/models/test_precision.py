"""Float32 that is float32, whatever the caller has set, and settings that are the caller's again afterwards."""

import contextlib
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from bitleak.models.precision import exact_float32

LEVELS = [("generic", "all"), *product(("mkldnn", "cuda"), ("all", "matmul", "conv", "rnn"))]


def settings():
    """All precisions as PyTorch resolves them, with the levels above and without each of them, and its older flags."""
    read, write = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    found = [read(*level) for level in LEVELS]
    for level in (("generic", "all"), ("mkldnn", "all"), ("cuda", "all")):
        own = read(*level) if level[0] == "generic" else None
        if own is not None:
            write(*level, "none")
            found += [read(*each) for each in LEVELS]
            write(*level, own)
    for older in (
        "_get_float32_matmul_precision",
        "_get_cudnn_allow_tf32",
        "_get_cublas_allow_tf32",
    ):
        try:
            found.append(getattr(torch._C, older)())
        except RuntimeError:
            found.append("contradiction")
    cudnn = torch.backends.cudnn
    return [*found, cudnn.enabled, cudnn.benchmark, cudnn.deterministic]


@contextlib.contextmanager
def untouched():
    """Leaves PyTorch's settings as a fresh process has them, as far as they can be written."""
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        for level in LEVELS:
            torch._C._set_fp32_precision_setter(*level, "none")
        torch.backends.cudnn.allow_tf32 = True


def medium():
    torch.set_float32_matmul_precision("medium")


def generic_bf16():
    torch.backends.fp32_precision = "bf16"


def generic_tf32():
    torch.backends.fp32_precision = "tf32"


def operations_bf16():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"


def contradicting():
    torch.set_float32_matmul_precision("high")
    torch.backends.mkldnn.set_flags(_fp32_precision="bf16")
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.rnn.fp32_precision = "tf32"
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def nothing():
    pass


@pytest.mark.parametrize(
    "choose", [nothing, medium, generic_bf16, generic_tf32, operations_bf16, contradicting]
)
def test_products_are_those_of_float64_and_the_settings_are_as_before(choose):
    chance = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(64, 256, generator=chance), torch.randn(128, 256, generator=chance)
    images, kernel = (
        torch.randn(8, 32, 9, 9, generator=chance),
        torch.randn(32, 32, 3, 3, generator=chance),
    )
    with untouched():
        choose()
        before = settings()
        with exact_float32():
            linear, maps = F.linear(rows, weight), F.conv2d(images, kernel)
            assert all(
                torch._C._get_fp32_precision_getter(*level) in ("ieee", "none") for level in LEVELS
            )
        assert settings() == before
    for found, exact in (
        (linear, F.linear(rows.double(), weight.double())),
        (maps, F.conv2d(images.double(), kernel.double())),
    ):
        assert float((found - exact).abs().max()) < 1e-5 * float(
            exact.abs().max()
        )  # bfloat16: 3e-3


def test_an_operation_without_a_setting_of_its_own_follows_the_level_above_afterwards():
    with untouched():
        with exact_float32():
            pass
        torch.backends.fp32_precision = "bf16"
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"


def test_autocast_of_the_caller_is_off_inside_and_on_again_afterwards():
    rows = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with exact_float32():
            assert (rows @ rows.T).dtype == torch.float32
        assert (rows @ rows.T).dtype == torch.bfloat16


def test_settings_return_after_an_error():
    with untouched():
        medium()
        before = settings()
        with pytest.raises(ZeroDivisionError), exact_float32():
            _ = 1 / 0
        assert settings() == before
