"""A layer that says nothing: its relative error must still be a number that a store can hold."""

import math

import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.obc import OBC


@pytest.mark.parametrize(
    "quantizer",
    [
        OBC(levels=3),
        OBC(levels=3, inputs="quantized"),
        AdaRound(levels=3, iterations=3),
        GPTQ(levels=3),
        BRECQ(levels=3),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_a_layer_of_zeros_has_a_finite_relative_error(quantizer):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    record = quantizer(network, torch.randn(8, 1, 4, 4), torch.Generator()).record
    assert record["0"]["relative_error"] == 0
    assert all(math.isfinite(layer["relative_error"]) for layer in record.values())


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.dark, self.bright = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, images):
        flat = images.flatten(1)
        chosen = flat.mean(1) > 0
        answers = flat.new_empty(len(flat), 3)
        answers[chosen], answers[~chosen] = self.bright(flat[chosen]), self.dark(flat[~chosen])
        return answers


@pytest.mark.parametrize(
    "quantizer", [OBC(levels=3), GPTQ(levels=3), AdaRound(levels=3, iterations=3)]
)
def test_a_layer_that_no_calibration_image_reaches_is_refused_by_name(quantizer):
    images = -torch.rand(8, 1, 2, 2) - 0.1
    with pytest.raises(
        QuantizationError, match="'bright' is given no inputs by any of the 8 calibration images"
    ):
        quantizer(Mixture().eval(), images, torch.Generator())
    images[5:] *= -1  # none of the first two
    assert quantizer(Mixture().eval(), images, torch.Generator()).record["bright"]["levels"] == 3
