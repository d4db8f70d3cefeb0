from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.layers.quadratic import quadratic
from bitleak.quantizers.network import layer_inputs as capture
from bitleak.quantizers.network.layerwise import best_weight
from bitleak.quantizers.network.norm_statistics import reestimate
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(54, 4))


@pytest.fixture
def images():
    noise = torch.randn(100, 2, 10, 10, generator=torch.Generator().manual_seed(0))
    return 3 * torch.nn.functional.avg_pool2d(
        noise, 3, stride=1
    )  # neighbouring pixels are correlated


@torch.no_grad()
def errors_behind_the_quantized_layers(quantized, images):
    """Squared error of each layer's output, relative, where its input is that of the deployed network."""
    errors, reference, changed = {}, network().eval(), deployed(network(), quantized)
    inputs, behind = images, images
    for index, (layer, other) in enumerate(zip(reference, changed, strict=True)):
        outputs, after = layer(inputs), other(behind)
        if str(index) in quantized.layers:
            energy = (outputs - layer.bias.reshape(-1, *[1] * (outputs.ndim - 2))).square().sum()
            errors[str(index)] = float((outputs - after).square().sum() / energy)
        inputs, behind = outputs, after
    return errors


def test_the_target_is_the_ridge_regression_of_the_outputs_on_the_quantized_inputs():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(80, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    behind = inputs + 0.3 * torch.randn(80, 12, generator=generator)
    torch.manual_seed(0)
    layer = nn.Linear(12, 5)
    weight = layer.weight.detach()
    found = best_weight(weight, quadratic("fc", layer, [(inputs, behind)]), 0.02)
    inputs, behind = inputs.double(), behind.double()
    ridge = (0.02 * (behind.T @ behind).diagonal().mean()).sqrt() * torch.eye(12)
    wanted = torch.cat([inputs @ weight.double().T, torch.zeros(12, 5)])
    expected = torch.linalg.lstsq(torch.cat([behind, ridge]), wanted).solution.T
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    assert (found - weight).abs().max() > 0.01


def test_the_target_of_each_group_is_its_own():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, groups=2)
    inputs = torch.randn(30, 4, 5, 5, generator=generator)
    behind = inputs + 0.3 * torch.randn(inputs.shape, generator=generator)
    together = best_weight(
        layer.weight.detach(), quadratic("conv", layer, [(inputs, behind)]), 0.01
    )
    for group in range(2):
        alone = nn.Conv2d(2, 3, 3)
        alone.weight.data = layer.weight.detach()[3 * group : 3 * group + 3]
        pair = (inputs[:, 2 * group : 2 * group + 2], behind[:, 2 * group : 2 * group + 2])
        expected = best_weight(alone.weight.detach(), quadratic("conv", alone, [pair]), 0.01)
        torch.testing.assert_close(
            together[3 * group : 3 * group + 3], expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("name", ["3", "5"])
def test_rows_whose_weights_are_all_equal_are_exact_behind_quantized_layers(name, levels, images):
    given = network()
    rows = given.get_submodule(name).weight.data
    rows[0], rows[1], rows[2] = 0, 0.3, -0.2
    found = (
        OBC(levels=levels, inputs="quantized")(given, images, torch.Generator())
        .layers[name]
        .dequantize()
    )
    assert np.array_equal(found[:3], rows[:3].numpy())
    assert not np.array_equal(found[3], rows[3].numpy())


@pytest.mark.parametrize("wanted", ["relative", "absolute", "none"])
@pytest.mark.parametrize("levels", [3, 5])
def test_quantized_inputs_leave_less_error_behind_the_quantized_layers(levels, wanted, images):
    plain = OBC(levels=levels, reestimate=wanted)
    quantized, full = (
        replace(plain, inputs=i)(network(), images, torch.Generator())
        for i in ("quantized", "full_precision")
    )
    errors, others = (
        errors_behind_the_quantized_layers(each, images) for each in (quantized, full)
    )
    assert errors["3"] < others["3"]
    assert errors["5"] < others["5"]
    for name, error in errors.items():
        assert quantized.record[name]["relative_error"] == pytest.approx(error, rel=1e-3)
        assert quantized.record[name]["target_damping"] > 0


@pytest.mark.parametrize("kind", [OBC, GPTQ])
@pytest.mark.parametrize("inputs", ["quantized", "full_precision"])
def test_batch_norm_looks_at_as_many_of_the_images_as_it_shall(inputs, kind, images, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 640)  # ten records at a time
    plain = kind(levels=3, inputs=inputs, reestimate="absolute")
    few, all_of_them = (
        replace(plain, reestimate_images=some)(network(), images, torch.Generator())
        for some in (15, None)
    )
    for found, count in ((few, 20), (all_of_them, 100)):
        again = deployed(network(), found)
        reestimate(again, images[:count])
        np.testing.assert_allclose(again[1].running_mean, found.rest["1.running_mean"], atol=1e-6)
        np.testing.assert_allclose(again[1].running_var, found.rest["1.running_var"], rtol=1e-5)
    assert np.array_equal(few.layers["0"].codes, all_of_them.layers["0"].codes)
    with pytest.raises(ValueError, match="reestimate_images must be an integer of at least 1"):
        replace(plain, reestimate_images=0)


@pytest.mark.parametrize("inputs", ["quantized", "full_precision"])
def test_polish_lowers_the_recorded_error(inputs, images):
    plain, polished = (
        OBC(levels=3, inputs=inputs, polish=n)(network(), images, torch.Generator())
        for n in (0, 10)
    )
    assert polished.record["0"]["relative_error"] <= plain.record["0"]["relative_error"]
    assert sum(r["relative_error"] for r in polished.record.values()) < sum(
        r["relative_error"] for r in plain.record.values()
    )
    assert sum(r["polish_sweeps"] for r in polished.record.values()) > 0


def test_batch_norm_has_the_statistics_of_the_deployed_network(images):
    quantized, kept = (
        OBC(levels=3, inputs="quantized", reestimate=wanted)(network(), images, torch.Generator())
        for wanted in ("absolute", "none")
    )
    again = deployed(network(), quantized)
    reestimate(again, images)
    np.testing.assert_allclose(again[1].running_mean, quantized.rest["1.running_mean"], atol=1e-6)
    np.testing.assert_allclose(again[1].running_var, quantized.rest["1.running_var"], rtol=1e-5)
    assert not np.array_equal(quantized.rest["1.running_var"], network()[1].running_var)
    assert np.array_equal(kept.rest["1.running_var"], network()[1].running_var)


def test_a_residual_network_is_quantized_with_its_batch_norms_on_the_way():
    network = build(ModelSpec("cnn", {"width": 4}, 10, 1, 8, (0.0,), (1.0,)), seed=0).eval()
    images = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(2) / 2
    reestimate(network, images)
    calls = []
    quantized = OBC(levels=3, inputs="quantized", polish=10)(
        network, images, torch.Generator(), on_layer=lambda *call: calls.append(call)
    )
    assert [index for _, index, _ in calls] == list(range(len(quantized.layers)))
    nearest = RoundToNearest(levels=3)(network, images, torch.Generator())
    with torch.no_grad():
        wanted = network(images)
        errors = [
            float((deployed(network, each)(images) - wanted).square().sum())
            for each in (quantized, nearest)
        ]
    assert errors[0] < 0.5 * errors[1]


def test_dead_inputs_and_broken_images_behind_the_quantized_layers(images):
    dead = images.clone()
    dead[:, 1] = 0
    quantized = OBC(levels=4, inputs="quantized", polish=5)(network(), dead, torch.Generator())
    assert quantized.record["0"]["dead"] == 9
    assert not quantized.layers["0"].dequantize()[:, 1].any()
    images[3, 0, 2, 2] = float("nan")
    with pytest.raises(QuantizationError, match="layer '0': the calibration input"):
        OBC(inputs="quantized")(network(), images, torch.Generator())


def test_it_is_deterministic_and_leaves_the_network_alone(images):
    given = network()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    first, second = (
        OBC(levels=3, inputs="quantized", polish=5)(given, images, torch.Generator())
        for _ in range(2)
    )
    one, other = first.dequantize().tensors, second.dequantize().tensors
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert first.record == second.record
    assert all(module.training for module in given.modules())
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())


@pytest.mark.parametrize("fields", [{"inputs": "none"}, {"polish": -1}])
def test_wrong_fields_are_refused(fields):
    with pytest.raises(Exception, match=next(iter(fields))):
        OBC(**fields)
