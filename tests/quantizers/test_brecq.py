import json
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.grid import search_grid, to_codes
from bitleak.quantizers.network.norm_folding import fold
from bitleak.quantizers.network.reconstruction_units import units
from bitleak.quantizers.rtn import RoundToNearest

FEW = {"iterations": 40, "batch": 16, "learning_rate": 0.4, "regularization": 1e-4}


class Named(NamedTuple):
    """An answer in a named tuple."""

    logits: torch.Tensor


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        x = F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Residual()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(32, 2, 6, 6) + 2 * torch.randn(32, 2, 1, 1) + 1)
    return network.eval().requires_grad_(False)


@pytest.fixture
def images():
    draws = torch.Generator().manual_seed(1)
    return (
        torch.randn(48, 2, 6, 6, generator=draws)
        + 2 * torch.randn(48, 2, 1, 1, generator=draws)
        + 1
    )


def quantize(network, images, seed=0, **fields):
    return BRECQ(**{"levels": 3, **FEW, **fields})(
        network, images, torch.Generator().manual_seed(seed)
    )


def block_error(network, quantized, images):
    """Squared error of the residual block's output, summed over channels."""
    full, rounded = images, images
    for one, other in list(zip(units(network), units(deployed(network, quantized)), strict=True))[
        :2
    ]:
        full, rounded = one.run(full), other.run(rounded)
    return float((full - rounded).square().sum(1).mean())


def test_units_are_reconstructed_better_than_by_rounding_to_the_nearest(network, images):
    brecq, nearest = (
        quantize(network, images),
        RoundToNearest(levels=3)(network, images, torch.Generator()),
    )
    assert block_error(network, brecq, images) < 0.7 * block_error(network, nearest, images)
    for facts in brecq.record.values():
        assert facts["kept"] == "learned"
        assert facts["loss"] < facts["loss_nearest"]


def test_the_recorded_loss_is_that_of_the_units_output_in_the_whole_network(network, images):
    quantized = quantize(network, images)
    outputs = [one(images) for one in (network, deployed(network, quantized))]
    error, energy = (
        (outputs[0] - outputs[1]).square().sum(1).mean(),
        outputs[0].square().sum(1).mean(),
    )
    assert quantized.record["fc"]["loss"] == pytest.approx(float(error), rel=1e-3)
    assert quantized.record["fc"]["relative_error"] == pytest.approx(
        float(error / energy), rel=1e-3
    )
    assert quantized.record["conv1"] == quantized.record["conv2"]
    assert quantized.record["conv1"]["unit"] == "conv1..conv2"
    json.dumps(quantized.record)


def test_no_iterations_are_rounding_to_the_nearest_of_the_folded_weights(network, images):
    quantized = quantize(network, images, iterations=0)
    for name, layer in quantized.layers.items():
        weight = fold(network).get_submodule(name).weight
        assert torch.equal(torch.from_numpy(layer.codes), to_codes(weight, search_grid(weight, 3)))
        assert quantized.record[name]["kept"] == "nearest"


def test_many_levels_leave_the_logits_where_they_were(network, images):
    quantized = quantize(network, images, levels=256)
    torch.testing.assert_close(
        deployed(network, quantized)(images), network(images), rtol=0.02, atol=0.02
    )


def test_progress_names_every_layer_once(network, images):
    told = []
    BRECQ(levels=3, iterations=1)(
        network, images, torch.Generator(), on_layer=lambda *facts: told.append(facts)
    )
    assert told == [("conv", 0, 4), ("conv1", 1, 4), ("conv2", 2, 4), ("fc", 3, 4)]


def test_the_grid_of_the_paper_is_an_option(network, images):
    paper = quantize(network, images, grid="paper", levels=4)
    folded = fold(network)
    for name, layer in paper.layers.items():
        assert torch.equal(
            torch.from_numpy(layer.scale),
            search_grid(folded.get_submodule(name).weight, 4, style="paper").scale,
        )


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_presets_are_fields(name):
    assert BRECQ(**BRECQ.PRESETS[name]).iterations == BRECQ.PRESETS[name]["iterations"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iterations": -1}, "iterations must be an integer of at least 0, got -1"),
        ({"learning_rate": 0.0}, r"learning_rate must be a number in \(0.0, inf\], got 0.0"),
        ({"decay": (0.9, 1.0)}, r"decay must be a number in \[0.0, 1.0\), got 1.0"),
        ({"levels": 1}, "levels must be an integer from 2 to 256, got 1"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        BRECQ(**fields)


def test_calibration_that_is_not_finite_names_the_layer(network, images):
    images[3, 0, 0, 0] = float("nan")
    with pytest.raises(QuantizationError, match="layer 'conv': the calibration input holds NaN"):
        quantize(network, images)
    with pytest.raises(QuantizationError, match="empty"):
        quantize(network, images[:0])


def test_a_forward_pass_with_effects_that_the_graph_does_not_show_is_refused():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.fc = (
                nn.Conv2d(1, 2, 3),
                nn.ReLU(inplace=True),
                nn.Linear(2, 2),
            )

        def forward(self, x):
            x = self.conv(x)
            self.relu(x)
            return self.fc(x.mean((2, 3)))

    with pytest.raises(QuantizationError, match="an in-place call whose result is not used"):
        quantize(Silent(), torch.randn(8, 1, 5, 5))


@pytest.mark.parametrize("answer", [Named, dict])
def test_a_network_that_answers_with_another_object_is_refused(answer):
    class Answering(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.fc = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return answer(logits=self.fc(self.first(x)))

    with pytest.raises(QuantizationError, match="return one tensor, its logits"):
        quantize(Answering(), torch.randn(8, 4))


def test_the_fisher_weighting_is_recorded_beside_the_plain_error(network, images):
    plain, weighted = (
        quantize(network, images, weighting=weighting) for weighting in ("plain", "fisher")
    )
    for name, facts in weighted.record.items():
        assert facts["loss_nearest"] != pytest.approx(plain.record[name]["loss_nearest"], rel=1e-3)
        assert facts["loss"] < facts["loss_nearest"]
    outputs = [one(images) for one in (network, deployed(network, weighted))]
    error, energy = (
        (outputs[0] - outputs[1]).square().sum(1).mean(),
        outputs[0].square().sum(1).mean(),
    )
    assert weighted.record["fc"]["relative_error"] == pytest.approx(float(error / energy), rel=1e-3)


@pytest.mark.parametrize("start", ["adaround", "polish"])
def test_few_steps_from_codes_found_before_beat_as_few_from_the_weights(network, images, start):
    few = {"iterations": 10, "learning_rate": 0.05}
    begun, plain = (quantize(network, images, start=start, **few), quantize(network, images, **few))
    assert begun.record["conv1"]["kept"] == "learned"
    assert begun.record["conv1"]["loss"] < 0.9 * plain.record["conv1"]["loss"]
    again = quantize(network, images, start=start, **few)
    assert again.record == begun.record
