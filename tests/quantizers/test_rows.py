"""Quantizers on rows of a table: linear layers whose inputs have two axes."""

import pytest
import torch

from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.registry import QUANTIZERS, find

ROWS = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
SPEC = ModelSpec(
    "mlp", {"hidden": [16, 8], "activation": "tanh"}, 3, 20, 0, (0.0,) * 20, (1.0,) * 20
)


def answers(network, tensors=None):
    copy = build(SPEC, seed=0).eval()
    copy.load_state_dict(network.state_dict())
    if tensors is not None:
        copy.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    with torch.no_grad():
        return copy(ROWS)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_quantizer_takes_rows_of_a_table(name):
    network = build(SPEC, seed=0).eval()
    options = {"iterations": 60} if name in ("adaround", "brecq") else {}
    quantizer = find(QUANTIZERS, name, kind="quantizer")
    full, errors = answers(network), {}
    for levels in (4, 16, 256):
        quantized = quantizer(levels=levels, **options)(
            network, ROWS, torch.Generator().manual_seed(1)
        )
        assert set(quantized.layers) == {"linear1", "linear2", "classifier"}
        assert all(layer.codes.max() < levels for layer in quantized.layers.values())
        errors[levels] = float(
            (answers(network, quantized.dequantize().tensors) - full).square().mean()
        )
    # A grid of 2^8 levels is fine enough for a hundredth of the answers' variance.
    assert errors[256] < errors[16] < errors[4]
    assert errors[256] < 0.01 * float(full.var())
