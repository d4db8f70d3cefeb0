"""Every quantizer on every architecture: residual, dense, mobile, convolutional and plain transformers."""

import copy
import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec
from bitleak.models import load
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.grid import grid_for, to_codes, to_weights
from bitleak.quantizers.network.norm_folding import fold
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.quantizers.scheme import quantizable
from bitleak.registry import QUANTIZERS, find
from bitleak.single_network import load_quantized, save_quantized

# contracts/test_quantizers.py checks the shapes and types of the same functions
pytestmark = pytest.mark.usefixtures("shapes_unchecked")

METHODS = {
    "rtn": RoundToNearest(),
    "adaround": AdaRound(iterations=60, learning_rate=0.3),
    "brecq": BRECQ(iterations=20, learning_rate=0.4, batch=8),
    "obc": OBC(dtype="float32"),
    "obc-quantized": OBC(dtype="float32", inputs="quantized"),
    "gptq": GPTQ(),
}
LEVELS = (4, 3)
FAST = [
    "pre-activation",
    "densenet",
    "inverted-residual",
    "convnext",
    "transformer",
    "untraceable",
    "cnn",
    "vgg11_bn",
]
SLOW = ["resnet18", "resnet20", "mobilenet_v2"]


@pytest.fixture(scope="module")
def architectures():
    """The module with the networks, under a name that a factory can be imported by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield importlib.import_module("architectures")


@pytest.fixture(scope="module")
def digits(architectures):
    return architectures.coloured_digits()


@pytest.fixture(scope="module")
def calibration(digits):
    return digits[0][:32]


@pytest.fixture(
    scope="module", params=[*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name, architectures, digits):
    images, labels = digits
    return architectures.trained(
        name, images[:1200], labels[:1200], steps=40 if name in FAST else 150
    )


@pytest.fixture(scope="module")
def results(name, network, calibration, unchecked):
    """What every method makes of one network, by method and levels."""
    with unchecked():
        return {
            (method, levels): run(replace(quantizer, levels=levels), network, calibration)
            for method, quantizer in METHODS.items()
            for levels in LEVELS
            if not (name == "untraceable" and method == "brecq")
        }


def run(quantizer, network, images):
    return quantizer(network, images, torch.Generator().manual_seed(0))


@torch.no_grad()
def logits_error(network, quantized, images):
    """Relative squared error of the logits."""
    expected = network(images)
    return float(
        (deployed(network, quantized)(images) - expected).square().sum() / expected.square().sum()
    )


def test_codes_are_levels_of_their_grids_and_everything_is_finite(results, network, calibration):
    for (_, levels), quantized in results.items():
        assert set(quantized.layers) == set(quantizable(network)) == set(quantized.record)
        for layer in quantized.layers.values():
            assert layer.levels == levels
            assert layer.codes.max() < levels
            counted = max(len(np.unique(row)) for row in layer.codes)
            assert 2 <= counted <= levels
        with torch.no_grad():
            assert torch.isfinite(deployed(network, quantized)(calibration)).all()


def test_the_full_grid_is_used_somewhere(results):
    for (method, levels), quantized in results.items():
        used = max(len(np.unique(layer.codes)) for layer in quantized.layers.values())
        assert used == levels, method


def test_logits_are_closer_to_full_precision_than_by_rounding_to_the_nearest(
    results, network, calibration
):
    errors = {
        key: logits_error(network, quantized, calibration) for key, quantized in results.items()
    }
    for (method, levels), error in errors.items():
        if method != "rtn":
            assert error < 0.8 * errors["rtn", levels], (method, levels)


@torch.no_grad()
def inputs_of(network, names, images):
    """What each named module is called with in a run of the whole network."""
    seen = {}
    handles = [
        network.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen.update({name: args[0].clone()})
        )
        for name in names
    ]
    network(images.clone())
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def linear_part(layer, weight, inputs):
    """The layer's output by its own forward pass, with another weight and without the bias."""
    changed = copy.deepcopy(layer)
    changed.weight.copy_(weight)
    if changed.bias is not None:
        changed.bias.zero_()
    return changed.double()(inputs.double())


def relative(outputs, expected):
    """Squared error over energy; an output that is 0 and stays 0 has none."""
    error = float((outputs - expected).square().sum())
    return error / float(expected.square().sum()) if error else 0.0


@pytest.mark.parametrize("method", ["adaround", "obc", "obc-quantized", "gptq"])
def test_the_recorded_errors_are_those_of_the_layers_and_below_those_of_rounding_to_the_nearest(
    results, network, calibration, method
):
    layers = quantizable(network)
    full = inputs_of(network, layers, calibration)
    for levels in LEVELS:
        quantized = results[method, levels]
        changed = deployed(network, quantized)
        behind = full if method in ("obc", "gptq") else inputs_of(changed, layers, calibration)
        errors = []
        for name, layer in layers.items():
            weight = layer.weight.detach()
            nearest = to_weights(
                to_codes(weight, grid := grid_for(METHODS[method], weight, levels)), grid
            )
            expected = linear_part(layer, weight, full[name])
            tried = (changed.get_submodule(name).weight, nearest)
            mine, theirs = (
                relative(linear_part(layer, each, behind[name]), expected) for each in tried
            )
            assert quantized.record[name]["relative_error"] == pytest.approx(
                mine, rel=0.01, abs=1e-6
            ), name
            errors.append((mine, theirs))
        if (
            method == "adaround"
        ):  # it compares each row with rounding to the nearest, the greedy orders do not
            assert all(mine <= theirs for mine, theirs in errors)
        assert sum(mine <= theirs for mine, theirs in errors) >= 0.85 * len(errors)
        assert sum(mine for mine, _ in errors) < 0.9 * sum(theirs for _, theirs in errors)


def test_no_unit_of_brecq_is_worse_than_rounded_to_the_nearest(results, name):
    for levels in LEVELS if name != "untraceable" else ():
        records = results["brecq", levels].record.values()
        assert all(record["loss"] <= record["loss_nearest"] for record in records)
        assert sum(record["kept"] == "learned" for record in records) > len(records) / 2


def test_folding_changes_no_logit(name, network, calibration):
    if name == "untraceable":
        return
    with torch.no_grad():
        torch.testing.assert_close(
            fold(network)(calibration), network(calibration), rtol=1e-4, atol=1e-4
        )


def test_a_reloaded_network_gives_the_same_logits_bit_for_bit(
    results, name, network, architectures, calibration, tmp_path
):
    own = name in architectures.REGISTERED
    factory = "" if own else f"architectures:{architectures.FOREIGN[name].__name__}"
    options = architectures.REGISTERED[name] if own else {"factory": factory}
    spec = ModelSpec(
        name if own else "external", options, 10, 3, architectures.SIZE, (0.0,) * 3, (1.0,) * 3
    )
    for method, levels in [key for key in results if key[1] == 3]:
        quantized = results[method, levels]
        path, _ = save_quantized(replace(quantized, spec=spec), tmp_path / f"{method}-{levels}")
        with torch.no_grad():
            again = load(load_quantized(path).dequantize(), allow_external=True)(calibration)
            assert torch.equal(again, deployed(network, quantized)(calibration))


def test_a_network_that_cannot_be_traced_is_refused_by_brecq_alone(architectures, calibration):
    network = architectures.network("untraceable")
    with pytest.raises(
        QuantizationError,
        match=r"Untraceable cannot be traced by torch.fx .*\(rtn, adaround, obc, gptq\)",
    ):
        run(BRECQ(), network, calibration)


@pytest.mark.parametrize("quantizer", sorted(QUANTIZERS))
def test_functional_attention_is_refused_by_every_quantizer_with_advice(
    architectures, calibration, quantizer
):
    network = architectures.FunctionalTransformer()
    message = "'blocks.0.attention.attention' is an nn.MultiheadAttention.*nn.Linear layers"
    with pytest.raises(QuantizationError, match=message):
        run(find(QUANTIZERS, quantizer, kind="quantizer")(), network, calibration)


@pytest.mark.parametrize("quantizer", sorted(QUANTIZERS))
def test_a_layer_of_which_only_the_weight_is_used_is_refused_by_every_quantizer(
    calibration, quantizer
):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(768, 4), nn.Linear(4, 2)

        def forward(self, images):
            return self.second(nn.functional.linear(images.flatten(1), self.first.weight))

    with pytest.raises(QuantizationError, match="layer 'first' is never called as a module"):
        run(find(QUANTIZERS, quantizer, kind="quantizer")(), Functional(), calibration)


def test_attention_made_of_linear_layers_takes_the_numbers_of_the_functional_one(architectures):
    functional, own = (
        architectures.FunctionalTransformer().eval(),
        architectures.VisionTransformer().eval(),
    )
    names = {
        "attention.attention.in_proj_": "attention.qkv.",
        "attention.attention.out_proj": "attention.out",
    }
    state = functional.state_dict()
    for old, new in names.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    own.load_state_dict(state)
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(own(images), functional(images))
