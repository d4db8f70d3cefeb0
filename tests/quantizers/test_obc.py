from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.grid import search_grid
from bitleak.quantizers.layers.obq import eliminate
from bitleak.quantizers.network.layerwise import second_moments
from bitleak.quantizers.obc import OBC, Elimination, quantize_greedily
from bitleak.quantizers.rtn import RoundToNearest


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, 4))


@pytest.fixture
def images():
    noise = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return 3 * torch.nn.functional.avg_pool2d(
        noise, 3, stride=1
    )  # neighbouring pixels are correlated


@torch.no_grad()
def errors_on_full_precision_inputs(quantized, images):
    """Squared error of each layer's output where its input is that of the full-precision network."""
    errors, reference, changed = {}, network().eval(), deployed(network(), quantized)
    for index, (layer, other) in enumerate(zip(reference, changed, strict=True)):
        if hasattr(layer, "weight") and not isinstance(layer, nn.BatchNorm2d):
            difference = layer(images) - other(images)
            energy = (
                (layer(images) - layer.bias.reshape(-1, *[1] * (difference.ndim - 2)))
                .square()
                .sum()
            )
            errors[str(index)] = float(difference.square().sum() / energy)
        images = layer(images)
    return errors


@pytest.mark.parametrize("levels", [3, 16])
def test_every_layer_is_better_than_round_to_nearest_by_the_recorded_error(levels, images):
    generator = torch.Generator()
    obc, rtn = (kind(levels=levels)(network(), images, generator) for kind in (OBC, RoundToNearest))
    errors, rounded = (errors_on_full_precision_inputs(each, images) for each in (obc, rtn))
    for name, error in errors.items():
        assert error < rounded[name]
        assert obc.record[name]["relative_error"] == pytest.approx(error, rel=1e-3)


def test_second_moments_are_those_of_the_full_precision_inputs(images):
    full = network().eval()
    layers = {"5": full[5]}
    inputs = full[:5](images).detach().double()
    torch.testing.assert_close(
        second_moments(full, layers, images)["5"][0], inputs.T @ inputs, rtol=1e-5, atol=1e-4
    )


def test_each_group_has_a_hessian_of_its_own(images):
    full = network().eval()
    hidden = full[:3](images).detach()
    matrices = second_moments(full, {"3": full[3]}, images)["3"]
    weight = full[3].weight.detach()
    grid = search_grid(weight, 3)
    codes, _ = quantize_greedily("3", weight, grid, matrices)
    for group in range(3):
        alone = nn.Conv2d(2, 2, 3, stride=2)
        rows = slice(2 * group, 2 * group + 2)
        moments = second_moments(alone, {"": alone}, hidden[:, rows])[""][0]
        inverse = torch.linalg.inv(moments)[None]
        own = (part[None, rows] for part in (grid.scale, grid.zero_point))
        expected = eliminate(weight[None, rows].flatten(2), inverse, *own, 3)
        assert torch.equal(codes[rows].flatten(1), expected[0])


def test_inputs_that_never_occur_get_the_weight_zero_and_are_counted(images):
    dead = images.clone()
    dead[:, 1] = 0
    quantized = OBC(levels=4)(network(), dead, torch.Generator())
    assert quantized.record["0"]["dead"] == 9
    assert quantized.record["0"]["damping"] == 0
    weight = quantized.layers["0"].dequantize()
    assert not weight[:, 1].any()
    assert weight[:, 0].any()


def test_few_images_are_damped_and_it_is_recorded(images):
    quantized = OBC(levels=4)(network(), images[:2], torch.Generator())
    assert quantized.record["5"]["damping"] == 1e-2
    assert quantized.record["0"]["damping"] == 0


def test_batch_norm_is_re_estimated_on_the_calibration_images_if_wanted(images):
    with_it, without = (
        OBC(levels=3, reestimate=wanted)(network(), images, torch.Generator())
        for wanted in ("absolute", "none")
    )
    before = network().state_dict()
    assert np.array_equal(without.rest["1.running_mean"], before["1.running_mean"].numpy())
    hidden = deployed(network(), with_it)[0](images).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(with_it.rest["1.running_mean"], hidden.mean(1).detach(), atol=1e-5)
    np.testing.assert_allclose(with_it.rest["1.running_var"], hidden.var(1).detach(), rtol=1e-4)
    assert all(
        np.array_equal(with_it.layers[name].codes, without.layers[name].codes)
        for name in with_it.layers
    )


def test_the_network_is_not_changed(images):
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    OBC(levels=3)(given, images, torch.Generator())
    assert given.training
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())


def test_float32_is_not_used_where_it_would_lose_the_inverse():
    inputs = torch.randn(400, 12, generator=torch.Generator().manual_seed(0)).double()
    inputs[:, 1] = inputs[:, 0] + 2e-3 * inputs[:, 1]
    weight = torch.randn(4, 12, generator=torch.Generator().manual_seed(1))
    grid, hessian = search_grid(weight, 4), (inputs.T @ inputs)[None]
    codes = [
        quantize_greedily("fc", weight, grid, hessian, dtype=dtype)[0]
        for dtype in (torch.float32, torch.float64)
    ]
    assert torch.equal(*codes)


def test_groups_are_computed_in_float32_or_float64_each_for_itself_as_if_it_were_alone():
    inputs = torch.randn(5, 400, 40, generator=torch.Generator().manual_seed(0)).double()
    inputs = inputs.cumsum(2) / 6
    inputs[1::3, :, 1] = inputs[1::3, :, 0] + 2e-3 * inputs[1::3, :, 1]
    inputs[2, :, 5] = 0
    weight = torch.randn(15, 40, generator=torch.Generator().manual_seed(1))
    grid, hessian = search_grid(weight, 3), inputs.mT @ inputs
    for dtype in (torch.float32, torch.float64):
        together, record = quantize_greedily("fc", weight, grid, hessian, dtype=dtype)
        for group in range(5):
            rows = slice(3 * group, 3 * group + 3)
            own = replace(grid, scale=grid.scale[rows], zero_point=grid.zero_point[rows])
            alone, _ = quantize_greedily(
                "fc", weight[rows], own, hessian[group : group + 1], dtype=dtype
            )
            assert torch.equal(together[rows], alone)
        assert record == {"dead": 1, "damping": 0.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_on_several_grids_at_once_has_the_codes_of_each_grid_alone(dtype):
    inputs = torch.randn(3, 400, 40, generator=torch.Generator().manual_seed(0)).double()
    inputs = inputs.cumsum(2) / 6
    inputs[1, :, 1] = inputs[1, :, 0] + 2e-3 * inputs[1, :, 1]  # this group in float64
    inputs[2, :, 5] = 0
    weight = torch.randn(15, 10, 4, generator=torch.Generator().manual_seed(1))
    other = torch.cat([weight, 0.9 * weight], 1).reshape(30, 10, 4)  # each row on two grids
    weights, hessian = [weight, other, weight], inputs.mT @ inputs
    grids = [
        search_grid(weight, 16),
        search_grid(other, 3),
        search_grid(weight, 4, granularity="tensor"),
    ]
    together, record = Elimination(dtype, 1)("fc", weights, grids, hessian)
    for rows, grid, codes in zip(weights, grids, together, strict=True):
        alone, facts = quantize_greedily("fc", rows, grid, hessian, dtype=dtype)
        assert torch.equal(codes, alone)
        assert record == facts == {"dead": 1, "damping": 0.0}


def test_calibration_images_that_are_not_finite_name_the_first_layer(images):
    images[3, 0, 2, 2] = float("nan")
    with pytest.raises(QuantizationError, match="layer '0': the calibration input"):
        OBC()(network(), images, torch.Generator())


def test_layers_are_reported_in_the_order_of_execution(images):
    calls = []
    OBC()(network(), images, torch.Generator(), on_layer=lambda *call: calls.append(call))
    assert calls == [("0", 0, 3), ("3", 1, 3), ("5", 2, 3)]


def test_an_unknown_dtype_is_refused():
    with pytest.raises(Exception, match="float16"):
        OBC(dtype="float16")
