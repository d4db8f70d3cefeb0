"""What every entry of the registry's QUANTIZERS must do."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.grid import Grid, to_codes
from bitleak.quantizers.network.reconstruction_units import units
from bitleak.registry import QUANTIZERS, find

FEW = {
    "rtn": {},
    "adaround": {"iterations": 100, "learning_rate": 0.1},
    "brecq": {"iterations": 30, "learning_rate": 0.4, "batch": 16},
    "gptq": {},
    "obc": {},
}
VARIANTS = {
    "obc-quantized": ("obc", {"inputs": "quantized"}),
    "gptq-quantized-polish": ("gptq", {"inputs": "quantized", "polish": 4}),
    "adaround-polish": ("adaround", {**FEW["adaround"], "polish": 4, "exchange": 2}),
}
SCHEMES = [
    {"levels": 3},
    {"levels": 4, "granularity": "tensor"},
    {"levels": 5, "symmetric": True},
    {"levels": 2, "grid": "paper"},
    {"levels": 3, "last": 256, "layers": {"stage1*": 7}},
]


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    pixels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(data.target)


@pytest.fixture(scope="module")
def network(digits):
    """A residual network that has learnt the first 900 digits."""
    pixels, labels = digits
    network = build(ModelSpec("cnn", {"width": 8}, 10, 1, 8, (0.0,), (1.0,)), seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    draws = torch.Generator().manual_seed(0)
    for _ in range(6):
        for records in torch.randperm(900, generator=draws).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(pixels[records]), labels[records]).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def calibration(digits):
    return digits[0][:64]


@pytest.fixture(scope="module", params=[*sorted(QUANTIZERS), *VARIANTS])
def quantizer(request):
    name, fields = VARIANTS.get(request.param, (request.param, FEW.get(request.param, {})))
    return find(QUANTIZERS, name, kind="quantizer")(**fields)


@pytest.fixture(
    scope="module", params=SCHEMES, ids=lambda scheme: "-".join(map(str, scheme.values()))
)
def scheme(request):
    return request.param


@pytest.fixture(scope="module")
def quantized(quantizer, network, calibration, scheme):
    return run(quantizer, network, calibration, **scheme)


@pytest.fixture(scope="module")
def observed(quantizer, network, calibration):
    """A network in training mode and images, after a run with levels 3; the result; and the mode of
    each batch norm that ran.
    """
    handed_in, images, modes = copy.deepcopy(network).train(), calibration.clone(), []

    def watch(module, inputs):
        if isinstance(module, _BatchNorm):
            modes.append(module.training)

    hook = register_module_forward_pre_hook(watch)
    try:
        result = run(quantizer, handed_in, images, levels=3)
    finally:
        hook.remove()
    return handed_in, images, result, modes


@pytest.fixture(scope="module")
def evaluated(quantizer, network, calibration):
    """A network in evaluation mode and images, after a run with levels 3; the result."""
    handed_in, images = copy.deepcopy(network).eval(), calibration.clone()
    return handed_in, images, run(quantizer, handed_in, images, levels=3)


@pytest.fixture(scope="module")
def with_three_levels(evaluated):
    return evaluated[2]


def run(quantizer, network, calibration, **fields):
    return replace(quantizer, **fields)(network, calibration, torch.Generator().manual_seed(0))


def looks_at_images(quantizer):
    return getattr(quantizer, "looks_at_images", True)


def test_codes_depend_on_the_images_if_the_quantizer_looks_at_them(
    quantizer, network, calibration, with_three_levels
):
    """With levels 3, of half as many images whose contrast is changed."""
    second = run(quantizer, network, calibration[:32].flip(0) / 2, levels=3)
    same = all(
        np.array_equal(layer.codes, second.layers[name].codes)
        for name, layer in with_three_levels.layers.items()
    )
    assert same == (not looks_at_images(quantizer))


def unit_outputs(network, images):
    values, found = images, []
    with torch.no_grad():
        for unit in units(network):
            values = unit.run(values.clone())
            found.append(values)
    return found


def error_on(calibration, network, quantized):
    """Relative squared error of the outputs, summed over the units that hold layers."""
    outputs = zip(
        unit_outputs(network, calibration),
        unit_outputs(deployed(network, quantized), calibration),
        strict=True,
    )
    errors = [float((one - other).square().sum() / one.square().sum()) for one, other in outputs]
    return sum(error for error, unit in zip(errors, units(network), strict=True) if unit.layers)


def accuracy(network, digits):
    with torch.no_grad():
        return float((network(digits[0][900:]).argmax(1) == digits[1][900:]).double().mean())


def test_codes_lie_on_their_grid_and_give_as_many_values_as_they_should(quantized, network, scheme):
    names = {
        key.removesuffix(".weight") for key, value in network.state_dict().items() if value.ndim > 1
    }
    assert set(quantized.layers) == names
    state = deployed(network, quantized).state_dict()
    for name, layer in quantized.layers.items():
        levels = scheme["levels"]
        if name == "classifier":
            levels = scheme.get("last", levels)
        if name.startswith("stage1"):
            levels = scheme.get("layers", {}).get("stage1*", levels)
        assert layer.levels == levels
        assert layer.codes.max() < levels
        assert max(len(np.unique(row)) for row in layer.codes) <= levels
        assert len(np.unique(layer.codes)) >= 2
        assert layer.scale.shape == (1,) if "granularity" in scheme else (len(layer.codes),)
        assert np.array_equal(state[f"{name}.weight"].numpy(), layer.dequantize())


def test_the_result_is_a_state_of_the_same_network(with_three_levels, network):
    tensors = with_three_levels.dequantize().tensors
    assert {name: array.shape for name, array in tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in network.state_dict().items()
    }
    assert all(np.isfinite(array).all() for array in tensors.values())
    assert set(with_three_levels.record) == set(with_three_levels.layers)


def test_quantizing_the_result_on_its_own_grid_changes_nothing(quantized):
    for layer in quantized.layers.values():
        grid = Grid(torch.from_numpy(layer.scale), torch.from_numpy(layer.zero_point), layer.levels)
        assert np.array_equal(
            to_codes(torch.from_numpy(layer.dequantize()), grid).numpy(), layer.codes
        )


@pytest.mark.parametrize("levels", [3, 4])
def test_the_error_on_the_calibration_images_is_at_most_that_of_rounding_to_the_nearest(
    quantizer, network, calibration, levels, with_three_levels
):
    nearest = find(QUANTIZERS, "rtn", kind="quantizer")()
    limit = error_on(calibration, network, run(nearest, network, calibration, levels=levels))
    result = with_three_levels
    if levels != 3:
        result = run(quantizer, network, calibration, levels=levels)
    found = error_on(calibration, network, result)
    assert found < 0.7 * limit if looks_at_images(quantizer) else np.isfinite(found)
    if type(quantizer) is type(nearest):
        assert found == limit


def test_the_same_generator_gives_the_same_bits_in_both_modes(observed, with_three_levels):
    first, second = with_three_levels, observed[2]
    one, other = first.dequantize().tensors, second.dequantize().tensors
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert first.record == second.record


@pytest.mark.parametrize("training", [True, False])
def test_neither_network_nor_calibration_is_changed(
    network, calibration, training, observed, evaluated
):
    handed_in, images = (observed if training else evaluated)[:2]
    assert all(
        torch.equal(value, network.state_dict()[name])
        for name, value in handed_in.state_dict().items()
    )
    assert all(module.training is training for module in handed_in.modules())
    assert all(parameter.requires_grad for parameter in handed_in.parameters())
    assert not any(
        module._forward_pre_hooks or module._forward_hooks for module in handed_in.modules()
    )
    assert torch.equal(images, calibration)


def test_no_batch_norm_runs_in_training_mode(observed):
    modes = observed[3]
    assert modes
    assert not any(modes)


def test_256_levels_keep_the_accuracy(quantizer, network, digits):
    fields = {"reestimate": "none"} if hasattr(quantizer, "reestimate") else {}
    quantized = run(quantizer, network, digits[0][:64], levels=256, **fields)
    assert accuracy(network, digits) > 0.8
    assert abs(accuracy(deployed(network, quantized), digits) - accuracy(network, digits)) <= 0.0025


def test_a_constant_channel_and_a_dead_input_are_harmless(quantizer):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()
    with torch.no_grad():
        network[0].weight[0], network[0].weight[1], network[0].weight[2] = 0, 0.3, -0.2
    images = torch.randn(32, 2, 5, 5)
    images[:, 1] = 0
    quantized = run(quantizer, network, images, levels=2)
    assert np.isfinite(quantized.layers["0"].dequantize()).all()
    alive = torch.from_numpy(quantized.layers["0"].dequantize()[:, 0])
    assert torch.equal(alive[:3], network[0].weight[:3, 0])


def test_weights_and_images_that_are_not_finite_are_refused_by_layer(
    quantizer, network, calibration
):
    broken = copy.deepcopy(network)
    broken.classifier.weight.data[0, 0] = float("inf")
    with pytest.raises(QuantizationError, match="classifier"):
        run(quantizer, broken, calibration, levels=3)
    if not looks_at_images(quantizer):
        return
    images = calibration.clone()
    images[5] = float("nan")
    with pytest.raises(QuantizationError, match="layer 'conv'"):
        run(quantizer, network, images, levels=3)


def test_presets_hold_fields_with_valid_values(quantizer):
    assert {"paper", "quick"} <= set(quantizer.PRESETS)
    for fields in quantizer.PRESETS.values():
        assert replace(quantizer, **fields).levels == 16
