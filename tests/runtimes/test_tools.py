"""Tools of other kits: what is asked of their results, and that files answer for target and references alike."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_networks import REASON, SPEC, trained
from torch import nn

from bitleak.config import validate
from bitleak.core.errors import ConfigError, ModelError, QuantizationError
from bitleak.core.types import Images, NetworkFile, Weights
from bitleak.engine.codecs import decode, encode
from bitleak.models import load, state
from bitleak.models.fingerprint import random_images
from bitleak.query import answers as torch_answers
from bitleak.runtimes.file_network import FileNetwork
from bitleak.runtimes.fixed_batches import file_answers
from bitleak.runtimes.integer_products import products_saturate
from bitleak.runtimes.runtime import open_network
from bitleak.steps.weigh_weights import file_size
from bitleak.tools.tool_results import apply_tool

IMAGES = random_images(SPEC, 64)


@pytest.fixture
def tool(network, tmp_path):
    """Applies a function to the network."""

    def run(function, *, network=network, options=None, runtime=None):
        return apply_tool(
            function,
            network,
            IMAGES,
            tmp_path,
            spec=SPEC,
            options=options or {},
            runtime=runtime or {},
            name="zoo:tool",
            seed=1,
            fresh=load,
        )

    return run


def rounded(network, images, folder, *, steps=16):
    """Rounds all weights of convolutions and linear layers to multiples of a step."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            step = module.weight.data.abs().max() / steps
            module.weight.data = (module.weight.data / step).round() * step
    return network


def shrunk(network, images, folder):
    """Changes all weights, and quantizes none."""
    for parameter in network.parameters():
        parameter.data *= 0.9
    return network


def test_weights_of_a_network_are_its_result(tool, network):
    before = state(network)
    result = tool(rounded, options={"steps": 4})
    assert isinstance(result, Weights)
    assert len(np.unique(result.tensors["conv.weight"])) <= 9
    values = {}
    for name, tensor in result.tensors.items():
        if name.endswith("weight") and tensor.ndim > 1:
            layer = name.removesuffix(".weight")
            rows = tensor.reshape(len(tensor), -1)
            values[layer] = max(len(np.unique(row)) for row in rows)
            # Values that do not repeat in a channel show no grid of the channel.
            if 2 * values[layer] > rows.shape[1]:
                values[layer] = len(np.unique(rows))
    assert result.record["levels_counted"] == values
    assert result.record["float_layers"] == []
    assert decode("weights", encode(result)).record == result.record
    assert all((state(network)[name] == values).all() for name, values in before.items())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda network, images, folder: None, "returned nothing; expected the path of a file"),
        (lambda network, images, folder: 7, "returned a int; expected the path of a file"),
        (
            lambda network, images, folder: network,
            "changed nothing: all weights are those it was given",
        ),
        (
            lambda network, images, folder: "gone.onnx",
            "returned the path 'gone.onnx', where no file is",
        ),
        (
            lambda network, images, folder: nn.Linear(2, 2),
            "state dict does not fit the one it was given (bn.",
        ),
        (
            lambda network, images, folder: 1 / 0,
            "tool 'zoo:tool' failed: ZeroDivisionError: division by zero",
        ),
        (lambda network: network, "tool 'zoo:tool' failed: TypeError"),
        (
            shrunk,
            "left all layers in full precision (conv, stage1.0.conv1, ",
        ),
    ],
    ids=[
        "nothing",
        "a number",
        "unchanged",
        "no file",
        "another network",
        "fails",
        "other arguments",
        "weights on no grid",
    ],
)
def test_results_that_are_no_quantized_network_are_refused(tool, function, message):
    with pytest.raises(QuantizationError) as error:
        tool(function)
    assert message in str(error.value)


def test_a_network_that_rounds_its_activations_needs_a_file(tool):
    class Rounding(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.__dict__["inner"] = network

        def state_dict(self, *arguments, **options):
            return self.inner.state_dict(*arguments, **options)

        def forward(self, images):
            return self.inner((images * 2).round() / 2)

    with pytest.raises(
        QuantizationError, match=r"computes otherwise than its weights do, by .*activations"
    ):
        tool(lambda network, images, folder: Rounding(rounded(network, images, folder)).eval())


def test_draws_of_a_tool_follow_the_seed(tool):
    def noisy(network, images, folder):
        with torch.no_grad():
            codes = torch.randint(0, 4, network.conv.weight.shape)
            network.conv.weight.copy_(codes * np.random.rand())  # noqa: NPY002
        return network

    first, second = tool(noisy), tool(noisy)
    assert (first.tensors["conv.weight"] == second.tensors["conv.weight"]).all()


class TestFiles:
    @pytest.fixture(autouse=True)
    def packages(self):
        for package in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(package, reason=REASON)

    @pytest.fixture
    def copying(self, exported):
        def run(network, images, folder):
            (folder / "net.onnx").write_bytes(exported.content)
            return folder / "net.onnx"

        return run

    def test_a_file_is_answered_by_its_runtime_and_its_layers_are_counted(
        self, tool, copying, codes, images, expected
    ):
        file = tool(copying)
        assert isinstance(file, NetworkFile)
        with torch.inference_mode():
            answers = FileNetwork(open_network(file))(torch.from_numpy(images)).numpy()
        assert np.abs(answers - expected).max() < 1e-5
        counts = {
            name: max(len(np.unique(row)) for row in layer.codes.reshape(len(layer.codes), -1))
            for name, layer in codes.layers.items()
        }
        assert sorted(file.record["levels_counted"].values()) == sorted(counts.values())
        assert file.record["runtime"]["provider"] == "CPUExecutionProvider"
        weighed = file_size(file)
        assert weighed["bytes"] == file.size
        assert weighed["levels_counted"] == max(counts.values())
        assert (weighed["float_layers"], weighed["quantized_activations"]) == (0, 0)
        packed = sum(
            layer.codes.size // 2 + 5 * len(layer.scale) for layer in codes.layers.values()
        )
        count = sum(layer.codes.size for layer in codes.layers.values())
        assert weighed["bits_per_weight"] == pytest.approx(8 * packed / count, rel=0.01)

    def test_a_file_is_asked_without_torch_as_with_it(self, tool, copying):
        opened = open_network(tool(copying))
        pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)
        data = Images(pixels, np.zeros(40, np.int64), tuple("abcdefghij"), np.zeros(40, bool))
        asked = {"spec": SPEC, "queries": ("identity", "flip", "shift:1,-2"), "batch": 16}
        records = np.arange(3, 38)
        plain = file_answers(opened, data, records, **asked)
        torched = torch_answers(FileNetwork(opened), data, records, device="cpu", **asked)
        assert all((first == second).all() for first, second in zip(plain, torched, strict=True))
        assert np.ptp(plain[0]) > 0.1

    def test_a_file_comes_back_from_the_store(self, tool, copying):
        file = tool(copying, runtime={"optimisation": "none"})
        back = decode("network_file", encode(file))
        assert (back.content == file.content).all()
        assert (back.options, back.digest, back.spec) == (
            {"optimisation": "none"},
            file.digest,
            SPEC,
        )

    def test_a_file_in_full_precision_is_refused_with_its_layers(self, tool, network):
        from bitleak.runtimes.onnx_export import export_network

        def floats(network, images, folder):
            (folder / "net.onnx").write_bytes(
                export_network(network, Weights(state(network), SPEC)).content
            )
            return "net.onnx"

        with pytest.raises(QuantizationError) as error:
            tool(floats)
        assert "left all layers in full precision (node_conv2d, " in str(error.value)

    def test_a_file_for_other_images_is_refused(self, tool):
        def other(network, images, folder):
            folder.joinpath("net.onnx").write_bytes(Path(__file__).read_bytes())
            return folder / "net.onnx"

        with pytest.raises(ModelError, match="not an ONNX file"):
            tool(other)

    def test_a_file_for_other_inputs_is_refused_with_the_option_that_fits(self, tool, tmp_path):
        from bitleak.tools.onnxruntime_tool import quantize_static

        class OfUnit(nn.Module):
            def __init__(self, network):
                super().__init__()
                self.network = network
                self.register_buffer("mean", torch.tensor(SPEC.mean).reshape(3, 1, 1))
                self.register_buffer("std", torch.tensor(SPEC.std).reshape(3, 1, 1))

            def forward(self, images):
                return self.network((images - self.mean) / self.std)

        def of_unit(network, images, folder, spec):
            mean, std = (np.array(part).reshape(3, 1, 1) for part in (spec.mean, spec.std))
            unit = (images.numpy() * std + mean).astype(np.float32)
            return quantize_static(
                OfUnit(network), torch.from_numpy(unit), folder, spec=spec, reduce_range=True
            )

        with pytest.raises(QuantizationError, match=r"write runtime: \{pixels: unit\}"):
            tool(of_unit)
        assert tool(of_unit, runtime={"pixels": "unit"}).record["quantized_activations"]

    def test_a_file_of_another_network_is_refused(self, tool):
        from bitleak.tools.onnxruntime_tool import quantize_static

        def of_another(network, images, folder, spec):
            return quantize_static(trained(SPEC, seed=5), images, folder, spec=spec)

        with pytest.raises(QuantizationError, match="no more than chance: it is a file of another"):
            tool(of_another)

    def test_onnxruntime_quantizes_weights_activations_and_logits(self, tool):
        from bitleak.tools.onnxruntime_tool import quantize_static

        exact = {"reduce_range": True}  # weights of 7 bits, for any processor
        file = tool(quantize_static, options=exact)
        assert file.record["quantized_activations"] is True
        assert file.record["float_layers"] == []
        assert file.record["folded_batch_norms"] is True
        assert 16 < max(file.record["levels_counted"].values()) <= 127
        answers = open_network(file)(IMAGES.numpy())
        with torch.no_grad():
            floats = trained(SPEC)(IMAGES).numpy()
        error = np.sqrt(np.mean((answers - floats) ** 2) / np.mean(floats**2))
        assert 0.001 < error < 0.1
        # The logits have a grid of their own, of 8 bits.
        steps = np.diff(np.unique(answers))
        assert np.abs(steps / steps.min() - np.rint(steps / steps.min())).max() < 0.01
        assert tool(quantize_static, options=exact).digest == file.digest

    def test_eight_bits_are_refused_where_products_saturate_with_the_ways_out(self, tool):
        from bitleak.tools.onnxruntime_tool import quantize_static

        if not products_saturate():
            assert max(tool(quantize_static).record["levels_counted"].values()) > 16
            return
        with pytest.raises((ModelError, QuantizationError)) as error:
            tool(quantize_static)
        assert "quantize with weights of 7 bits (reduce_range)" in str(error.value)
        assert "(saturating 8-bit products)" in str(error.value)
        chosen = tool(quantize_static, runtime={"optimisation": "all"})
        assert max(chosen.record["levels_counted"].values()) > 16


class TestNncf:
    @pytest.fixture(autouse=True)
    def packages(self):
        for package in ("openvino", "nncf", "onnx", "onnxscript"):
            pytest.importorskip(package, reason="needs bitleak[nncf]")

    @pytest.fixture
    def quantize(self, tool):
        def run(**options):
            from bitleak.tools.openvino_tool import quantize_nncf

            return tool(quantize_nncf, options=options)

        return run

    def test_weights_and_activations_are_quantized_and_the_file_answers(self, quantize):
        file = quantize()
        assert (file.runtime, file.record["quantized_activations"]) == ("openvino", True)
        assert (file.record["float_layers"], len(file.record["levels_counted"])) == ([], 7)
        assert 16 < max(file.record["levels_counted"].values()) <= 255
        answers = open_network(file)(IMAGES.numpy())
        with torch.no_grad():
            floats = trained(SPEC)(IMAGES).numpy()
        error = np.sqrt(np.mean((answers - floats) ** 2) / np.mean(floats**2))
        assert 0.001 < error < 0.1
        assert quantize().digest == file.digest

    def test_four_bits_are_eight_in_convolutions_which_the_counts_show(self, quantize):
        for options, head in (({}, "u8"), ({"all_layers": True}, "i4")):
            record = quantize(weights="int4_sym", **options).record
            counts = dict(record["levels_counted"])
            assert max(counts.values()) > 16
            assert record["quantized_activations"] is False
            # 8 bits per weight and 5 bytes per channel, or 4 bits in the head's 80 weights alone.
            assert (record["bits_per_weight"] < 8.7) == (head == "i4")

    def test_an_unknown_mode_is_refused(self, quantize):
        with pytest.raises(
            QuantizationError, match="unknown weights 'int4': did you mean 'int4_sym'"
        ):
            quantize(weights="int4")

    def test_nncf_is_imported_without_its_telemetry(self):
        code = (
            "from bitleak.tools.openvino_tool import import_nncf\n"
            "import_nncf()\n"
            "import os, nncf.telemetry.wrapper as wrapper\n"
            "assert isinstance(wrapper.telemetry, wrapper.NNCFTelemetryStub), wrapper.telemetry\n"
            "assert 'NNCF_CI' not in os.environ\n"
        )
        environment = {name: value for name, value in os.environ.items() if name != "NNCF_CI"}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"call": "onnxrt"}, "quantize.0.call: unknown tool 'onnxrt': did you mean 'onnxruntime'?"),
        (
            {"call": "zoo_that_is_not:tool"},
            "quantize.0.call: tool 'zoo_that_is_not:tool': cannot import",
        ),
        (
            {"call": "math:pi"},
            "quantize.0.call: tool 'math:pi' must be a function (network, images, folder)",
        ),
        ({}, "quantize.0.call: missing; it has no default"),
        ({"call": "onnxruntime", "levels": 4}, "quantize.0.levels: unknown key 'levels'"),
        (
            {"call": "onnxruntime", "options": {"per_chanel": False}},
            "quantize.0.options.per_chanel: unknown option 'per_chanel': did you mean 'per_channel'?",
        ),
        (
            {"call": "onnxruntime", "options": {"spec": 1}},
            "quantize.0.options.spec: unknown option 'spec'",
        ),
        (
            {"call": "brevitas", "options": {"bits": "four"}},
            "quantize.0.options.bits: expected a whole number, got 'four'",
        ),
        (
            {"call": "export", "options": {"levels": 4}},
            "quantize.0.options.quantizer: missing. Known: rtn, ",
        ),
        (
            {"call": "export", "options": {"quantizer": "ocb", "levels": 4}},
            "quantize.0.options.quantizer: unknown quantizer 'ocb': did you mean 'obc'?",
        ),
        (
            {"call": "export", "options": {"quantizer": "obc"}},
            "quantize.0.options.levels: missing; it has no default",
        ),
        (
            {"call": "export", "options": {"quantizer": "obc", "levels": 4, "dytpe": "float32"}},
            "quantize.0.options.dytpe: unknown key 'dytpe': did you mean 'dtype'?",
        ),
        (
            {"call": "export", "options": {"quantizer": "obc", "levels": 4, "preset": "fast"}},
            "quantize.0.options.preset: unknown preset 'fast'",
        ),
        (
            {"call": "bitleak.tools.torchao_tool:quantize_weights", "options": {"step": 1}},
            "quantize.0.options.step: unknown option 'step'",
        ),
        (
            {"call": "toy_target:linear"},
            "quantize.0.call: tool 'toy_target:linear' must be a function (network, images, folder), got ()",
        ),
        (
            {"call": "onnxruntime", "runtime": {"optimization": "none"}},
            "quantize.0.runtime.optimization: unknown option 'optimization': did you mean 'optimisation'?",
        ),
    ],
)
def test_entries_of_a_config_are_checked(entry, message):
    raw = {
        "data": "digits",
        "split": {"models": 6, "targets": 2},
        "model": {"name": "cnn", "width": 4},
        "quantize": [{"name": "tool", **entry}],
        "attacks": ["lira"],
    }
    with pytest.raises(ConfigError) as error:
        validate(raw)
    assert message in str(error.value)


def test_a_preset_of_an_exported_quantizer_stands_for_its_fields():
    raw = {
        "data": "digits",
        "split": {"models": 6, "targets": 2},
        "model": {"name": "cnn", "width": 4},
        "quantize": [
            {
                "name": "tool",
                "call": "export",
                "options": {"quantizer": "obc", "levels": 4, "preset": "quick"},
            }
        ],
        "attacks": ["lira"],
    }
    (entry,) = validate(raw).quantize
    assert entry.tool.options == {"quantizer": "obc", "levels": 4, "dtype": "float32"}
