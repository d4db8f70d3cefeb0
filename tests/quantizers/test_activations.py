"""8-bit activations: simulation against a slow loop in NumPy, and against the exported file."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx_networks import SPEC, require_onnx, trained
from torch import nn

from bitleak.config import validate
from bitleak.core.params import known_params
from bitleak.core.types import ModelSpec
from bitleak.engine.codecs import decode, encode
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.models import load
from bitleak.models.fingerprint import random_images
from bitleak.models.fused_network import fused
from bitleak.models.input_rounding import exact_inputs
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.rtn import RoundToNearest

MLP = ModelSpec("mlp", {}, 3, 5, 0, (0.0,) * 5, (1.0,) * 5)
IMAGES = random_images(SPEC, 48)


def quantized(network, spec, images, quantizer=RoundToNearest, **options):
    made = quantizer(levels=16, **options)(network, images, torch.Generator())
    return replace(made, spec=spec)


@pytest.fixture(scope="module")
def codes():
    return quantized(trained(SPEC), SPEC, IMAGES, activations=8)


def slow(value, grid):
    """One number on its grid, halves to even."""
    code = np.round(np.float32(value) / np.float32(grid["scale"])) + grid["zero_point"]
    code = min(max(code, 0), grid["levels"] - 1)
    return np.float32((code - grid["zero_point"]) * np.float32(grid["scale"]))


def test_a_slow_loop_in_numpy_gives_the_same_logits():
    chance = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    images = torch.randn(40, 5, generator=chance)
    made = RoundToNearest(levels=16, activations=8)(network, images, chance)
    weights = made.dequantize()

    # Grids: the range of each layer's input over all images, with zero in it.
    tensors = weights.tensors
    hidden = np.maximum(images.numpy() @ tensors["0.weight"].T + tensors["0.bias"], 0)
    for name, inputs in (("0", images.numpy()), ("2", hidden)):
        low, high = min(0.0, float(inputs.min())), max(0.0, float(inputs.max()))
        grid = made.activations[name]
        assert grid["scale"] == pytest.approx((high - low) / 255, rel=1e-6)
        assert grid["zero_point"] == round(-low / grid["scale"])
        assert grid["levels"] == 256
    assert made.activations["2"]["zero_point"] == 0

    # Logits, number by number; inputs outside of the range are clipped.
    from bitleak.models.input_rounding import round_inputs
    from bitleak.quantizers.assembly import deployed

    simulation = round_inputs(deployed(network, made), made.activations)
    tested = 2 * torch.randn(6, 5, generator=chance)
    with torch.no_grad():
        answers = simulation(tested).numpy()
    for row, image in zip(answers, tested.numpy(), strict=True):
        first = np.array([slow(value, made.activations["0"]) for value in image])
        inner = np.maximum(tensors["0.weight"] @ first + tensors["0.bias"], 0)
        second = np.array([slow(value, made.activations["2"]) for value in inner])
        expected = tensors["2.weight"] @ second + tensors["2.bias"]
        assert np.abs(row - expected).max() < 1e-5


def test_all_ways_to_the_network_round_its_activations(codes):
    again = decode("quantized_weights", encode(codes))
    assert again.activations == codes.activations
    assert set(codes.activations) == set(codes.layers)
    network = load(codes.dequantize())
    with torch.no_grad():
        simulated = network(IMAGES)
        with exact_inputs(network):
            plain = network(IMAGES)
        assert (fused(load(again.dequantize()))(IMAGES) - simulated).abs().max() < 1e-4
        assert torch.equal(network(IMAGES), simulated)
    floats = load(replace(codes, record={}).dequantize())
    with torch.no_grad():
        assert torch.equal(floats(IMAGES), plain)
    error = float((simulated - plain).square().mean().sqrt() / plain.square().mean().sqrt())
    assert 0.0005 < error < 0.1


def test_grids_of_activations_count_as_bytes(codes):
    sizes = weights_size(codes)
    plain = weights_size(replace(codes, record={}))
    assert sizes["bytes"] - plain["bytes"] == 5 * len(codes.layers)


def test_quantizers_that_share_a_pass_have_grids_too():
    network = trained(SPEC)
    made = quantized(network, SPEC, IMAGES, GPTQ, activations=8, reestimate="relative")
    assert set(made.activations) == set(made.layers)
    # The stem's input is the images, whatever the weights are.
    low, high = float(IMAGES.min()), float(IMAGES.max())
    assert made.activations["conv"]["scale"] == pytest.approx((high - low) / 255)


def test_the_exported_file_computes_as_the_simulation_does(codes):
    require_onnx()
    from bitleak.core.types import NetworkFile
    from bitleak.runtimes.onnx_export import export_network
    from bitleak.runtimes.onnx_files import parse_content
    from bitleak.runtimes.onnx_layers import layer_facts
    from bitleak.runtimes.runtime import open_network

    network = load(codes.dequantize())
    content = export_network(network, codes).content
    model = parse_content(content, "the file")
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) == len(codes.layers)
    assert max(layer_facts(model)["levels_counted"].values()) == 16
    tested = random_images(SPEC, 200)
    with torch.no_grad():
        simulated = network(tested).numpy()
        with exact_inputs(network):
            plain = network(tested).numpy()
    for optimisation in ("all", "none"):
        options = {"optimisation": optimisation}
        file = NetworkFile(
            np.frombuffer(content, np.uint8), "onnx", options, len(content), "", SPEC
        )
        answers = open_network(file)(tested.numpy())
        # Most answers agree to float32's rounding; a few pass a rounding that falls to the other side.
        difference = np.abs(answers - simulated).max(axis=1)
        assert np.median(difference) < 1e-4
        assert np.abs(answers - plain).max(axis=1).mean() > 20 * difference.mean()


@pytest.mark.parametrize("value", [4, 16])
def test_other_widths_are_refused(value):
    with pytest.raises(ValueError, match="activations must be 8 bits, or null, got"):
        RoundToNearest(activations=value)


def test_names_and_keys_of_variants_without_the_option_stay():
    raw = {
        "data": "digits",
        "split": {"models": 6, "targets": 2},
        "model": {"name": "cnn", "width": 4},
        "attacks": ["lira"],
        "quantize": [
            {"name": "rtn", "levels": 16},
            {"name": "rtn", "levels": 16, "activations": 8},
        ],
    }
    plain, rounded = validate(raw).quantize
    assert (plain.variant, rounded.variant) == ("rtn-4", "rtn-4+act8")
    assert "activations" not in known_params(RoundToNearest, plain.options)
    assert known_params(RoundToNearest, rounded.options)["activations"] == 8
    assert not plain.looks_at_images
    assert rounded.looks_at_images
