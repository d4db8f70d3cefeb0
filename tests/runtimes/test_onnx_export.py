"""Exported files: the same logits as PyTorch's, packed codes, bytes that depend on the network alone."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx_networks import REASON, SPEC, quantized, trained
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, QuantizedWeights
from bitleak.models import load
from bitleak.models.fingerprint import random_images
from bitleak.models.input_rounding import round_inputs
from bitleak.runtimes.onnx_export import export_network
from bitleak.runtimes.packed_codes import pack_codes, unpack_codes
from bitleak.single_network import save_quantized

onnx = pytest.importorskip("onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
pytest.importorskip("onnxscript", reason=REASON)

LEVELS = onnxruntime.GraphOptimizationLevel
SESSIONS = (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL)


def answers(content, images, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads = level, 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def check_answers(network, weights, content, records=40):
    """Sessions with all of ONNX Runtime's defaults and without any optimisation answer as PyTorch does."""
    images = random_images(weights.spec, records)
    with torch.no_grad():
        expected = network(images).numpy()
    for level in SESSIONS:
        found = answers(content, images.numpy(), level)
        assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.ptp(expected, axis=0).min() > 0.1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_codes_come_back(bits):
    codes = np.random.default_rng(0).integers(0, 2**bits, 37).astype(np.uint8)
    packed = pack_codes(codes, bits)
    assert len(packed) == -(-37 * bits // 8)
    assert unpack_codes(packed, 37, bits).tolist() == codes.tolist()


def test_codes_are_packed_as_onnx_reads_them():
    codes = np.array([[1, 0, 3], [2, 2, 1]], np.uint8)
    for bits, kind in ((2, onnx.TensorProto.UINT2), (4, onnx.TensorProto.UINT4)):
        tensor = onnx.helper.make_tensor(
            "codes", kind, (2, 3), pack_codes(codes.ravel(), bits), raw=True
        )
        assert onnx.numpy_helper.to_array(tensor).astype(np.uint8).tolist() == codes.tolist()


def test_the_file_answers_as_the_network_with_and_without_optimisations(codes, exported):
    check_answers(load(codes.dequantize()), codes, exported.content)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 4, "granularity": "tensor", "last": 200},
        {"levels": 16, "grid": "paper"},
    ],
    ids=["2 and 8 bits, per tensor", "zero points outside of the codes"],
)
def test_every_grid_is_exported(network, options):
    weights = quantized(network, SPEC, **options)
    if options.get("grid") == "paper":
        # Zero points below the first code and above the last, as of weights that are all of one sign.
        layers = {
            name: replace(layer, zero_point=layer.zero_point + np.float32(20 * (number % 3 - 1)))
            for number, (name, layer) in enumerate(weights.layers.items())
        }
        weights = replace(weights, layers=layers)
    network = load(weights.dequantize())
    with torch.no_grad():
        network(random_images(SPEC, 4))
    exported = export_network(network, weights)
    check = check_answers if options.get("grid") != "paper" else check_relative
    check(network, weights, exported.content)


def check_relative(network, weights, content):
    images = random_images(weights.spec, 40)
    with torch.no_grad():
        expected = network(images).numpy()
    for level in SESSIONS:
        found = answers(content, images.numpy(), level)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


class Tokens(nn.Module):
    """A linear layer on each row of pixels, a mean over the rows, a head."""

    def __init__(self, classes, channels, size):
        super().__init__()
        self.embed = nn.Linear(channels * size, 24)
        self.mix = nn.Linear(24, 24, bias=False)
        self.head = nn.Linear(24, classes)

    def forward(self, images):
        rows = images.transpose(1, 2).flatten(2)
        return self.head(torch.relu(self.mix(torch.relu(self.embed(rows)))).mean(1))


@pytest.fixture(scope="module")
def tokens():
    torch.manual_seed(0)
    network = Tokens(10, 3, 8).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network


@pytest.mark.parametrize("levels", [pytest.param(16, marks=pytest.mark.slow), 4])
def test_products_of_an_outside_network_are_not_rounded_by_default_sessions(tokens, levels):
    # A linear layer on three axes is a MatMul, whose activations ONNX Runtime rounds to 8 bits
    # after DequantizeLinear, and whose 2-bit kernel is wrong for 10 outputs.
    spec = replace(SPEC, name="external", options={"factory": "zoo:tokens"})
    weights = quantized(tokens, spec, levels=levels)
    for name, layer in weights.layers.items():
        tokens.get_submodule(name).weight.data = torch.from_numpy(layer.dequantize())
    exported = export_network(tokens, weights)
    operators = [node.op_type for node in onnx.load_from_string(exported.content).graph.node]
    assert "MatMul" in operators
    check_answers(tokens, weights, exported.content)


@pytest.mark.parametrize("levels", [16, 4, 2])
def test_layers_that_follow_each_other_with_rounded_inputs_answer_by_default(levels):
    # Without batch norm between them, a runtime joins a product with the rounding before and after it.
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
    linear = nn.Linear(8 * SPEC.size**2, 16), nn.ReLU(), nn.Linear(16, 10)
    network = nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), *linear).eval()
    spec = replace(SPEC, name="external", options={"factory": "zoo:plain"})
    weights = quantized(network, spec, levels=levels, activations=8)
    for name, layer in weights.layers.items():
        network.get_submodule(name).weight.data = torch.from_numpy(layer.dequantize())
    exported = export_network(network, weights)
    assert exported.opset == (25 if levels <= 4 else 21)
    images = random_images(spec, 40)
    with torch.no_grad():
        expected = round_inputs(network, weights.activations)(images).numpy()
    plain, joined = (answers(exported.content, images.numpy(), level) for level in SESSIONS)
    assert np.abs(plain - expected).max() <= 1e-5 * np.abs(expected).max()
    # A product of integers rounds a few values to the next step, half a percent of the logits.
    limit = 1e-5 if levels <= 4 else 0.01
    assert np.abs(joined - expected).max() <= limit * np.abs(expected).max()


def test_codes_grids_and_batch_norms_are_in_the_file_as_they_are(codes, exported):
    model = onnx.load_from_string(exported.content)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, layer in codes.layers.items():
        tensor = stored[f"{name}.weight.codes"]
        assert tensor.data_type == onnx.TensorProto.UINT4
        assert len(tensor.raw_data) == -(-layer.codes.size // 2)
        unpacked = unpack_codes(tensor.raw_data, layer.codes.size, 4)
        assert (unpacked == layer.codes.ravel()).all()
        assert f"{name}.weight" not in stored
    for name, values in codes.rest.items():
        if values.ndim == 1:
            assert (onnx.numpy_helper.to_array(stored[name]) == values).all()
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    assert {item.name: item.i for item in gemm.attribute}["transB"] == 1
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 6


@pytest.fixture(scope="module")
def narrow(network):
    """Codes of 4 levels, and their file."""
    weights = quantized(network, SPEC, levels=4)
    return weights, export_network(network_of(weights), weights)


def test_a_head_of_ten_classes_in_two_bits_is_answered_right(narrow):
    # After a Gemm without transB, or a MatMul, ONNX Runtime's 2-bit product would be wrong here.
    weights, exported = narrow
    check_answers(network_of(weights), weights, exported.content)


def test_the_file_is_smaller_by_the_width_of_its_codes(codes, exported, narrow):
    weights = sum(layer.codes.size for layer in codes.layers.values())
    channels = sum(len(layer.scale) for layer in codes.layers.values())
    # A quarter of a byte per weight and per zero point; padding and the text of levels are a few bytes.
    fewer = len(exported.content) - len(narrow[1].content)
    assert fewer == pytest.approx((weights + channels) / 4, abs=20)


def network_of(weights):
    return load(weights.dequantize())


@pytest.mark.slow
def test_an_export_by_the_command_in_another_process_is_byte_for_byte_equal(
    codes, exported, tmp_path
):
    save_quantized(codes, tmp_path / "codes")
    call = [sys.executable, "-m", "bitleak", "export", "--weights", tmp_path / "codes.json"]
    subprocess.run([*call, "--out", tmp_path / "again.onnx"], check=True, capture_output=True)
    assert (tmp_path / "again.onnx").read_bytes() == exported.content


def test_no_path_of_a_source_file_is_in_the_file(exported):
    for text in (b".py", b"site-packages", b"stack_trace", b"torch"):
        assert text not in exported.content, text


def test_the_metadata_say_network_levels_and_standardisation(exported):
    model = onnx.load_from_string(exported.content)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["bitleak.network"] == {"name": "cnn", "options": {"width": 4}}
    assert facts["bitleak.mean"] == list(SPEC.mean)
    assert set(facts["bitleak.levels"].values()) == {16}
    assert (model.producer_name, model.ir_version, exported.opset) == ("bitleak", 10, 21)


def test_two_bits_before_opset_25_are_stored_in_four_and_it_is_said(narrow):
    weights, narrow = narrow
    exported = export_network(network_of(weights), weights, opset=21)
    assert set(exported.bits.values()) == {4}
    assert "stored in 4 bits, since types of 2 bits need opset 25" in exported.notes[0]
    assert (narrow.opset, set(narrow.bits.values()), narrow.notes) == (25, {2}, ())
    assert onnx.load_from_string(narrow.content).ir_version == 13


def test_an_unknown_opset_is_refused(codes):
    with pytest.raises(ValueError, match=r"opset must be one of 21, 22, 23, 24, 25 .*, got 17"):
        export_network(network_of(codes), codes, opset=17)


def test_weights_without_a_spec_are_refused(network, codes):
    with pytest.raises(ValueError, match="weights must have a spec"):
        export_network(network, replace(codes, spec=None))


def test_a_weight_is_found_by_its_values_and_not_by_its_name(network, codes):
    with pytest.raises(
        ModelError, match="layer 'conv': its weight is not a tensor of the exported graph"
    ):
        export_network(network, codes)  # holds the weights before they were quantized


def test_a_network_that_cannot_be_traced_is_refused():
    class Choosy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 10)

        def forward(self, images):
            return self.head(
                images.flatten(1) if float(images.sum()) > 0 else images.flatten(1) * 2
            )

    spec = replace(SPEC, name="external", options={"factory": "zoo:choosy"})
    weights = QuantizedWeights({}, {}, spec)
    with pytest.raises(
        ModelError, match=r"PyTorch cannot export the network to ONNX: .*torch\.export"
    ):
        export_network(Choosy(), weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg11_bn", "mobilenet_v2"])
@pytest.mark.parametrize("levels", [200, 16, 3])
def test_every_kind_of_network_answers_as_pytorch_does(name, levels):
    spec = ModelSpec(name, {}, 10, 3, 32, (0.5,) * 3, (0.25,) * 3)
    weights = quantized(trained(spec), spec, levels=levels)
    network = network_of(weights)
    exported = export_network(network, weights)
    images = random_images(spec, 64)
    with torch.no_grad():
        expected = network(images).numpy()
    for level in SESSIONS:
        found = answers(exported.content, images.numpy(), level)
        assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
