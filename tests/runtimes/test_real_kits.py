"""Brevitas and torchao themselves: the codes and values of their results, counted."""

import numpy as np
import pytest
import torch
from onnx_networks import SPEC, require_onnx

from bitleak.core.errors import QuantizationError
from bitleak.core.types import NetworkFile, Weights
from bitleak.models import load
from bitleak.models.fingerprint import random_images
from bitleak.runtimes.runtime import open_network
from bitleak.tools.tool_results import apply_tool

IMAGES = random_images(SPEC, 64)


@pytest.fixture
def applied(network, tmp_path):
    def run(function, **options):
        return apply_tool(
            function,
            network,
            IMAGES,
            tmp_path,
            spec=SPEC,
            options=options,
            runtime={},
            name="kit",
            seed=1,
            fresh=load,
        )

    return run


class TestBrevitas:
    @pytest.fixture(autouse=True)
    def packages(self):
        require_onnx()
        pytest.importorskip("brevitas", reason="needs bitleak[brevitas]")

    @pytest.mark.parametrize("method", ["gpfq", "qronos"])
    def test_4_bits_are_15_values_in_a_file_that_answers_nearly_as_the_network(
        self, applied, network, method
    ):
        from bitleak.tools.brevitas_tool import _quantized_network, quantize_with_brevitas

        file = applied(quantize_with_brevitas, bits=4, method=method)
        assert isinstance(file, NetworkFile)
        record = file.record
        assert 12 < max(record["levels_counted"].values()) <= 15
        assert (record["float_layers"], record["quantized_activations"]) == ([], False)
        assert record["folded_batch_norms"] is False
        # The file computes as Brevitas' own network does.
        kit = _quantized_network(network, IMAGES, 4, method, True)
        with torch.no_grad():
            expected, plain = kit(IMAGES).numpy(), network(IMAGES).numpy()
        answers = open_network(file)(IMAGES.numpy())
        assert np.abs(answers - expected).max() < 1e-4 * np.abs(expected).max()
        error = np.sqrt(np.mean((answers - plain) ** 2) / np.mean(plain**2))
        assert 0.005 < error < 1
        assert applied(quantize_with_brevitas, bits=4, method=method).digest == file.digest

    def test_2_bits_are_three_values_unless_the_grid_is_shifted(self, applied):
        from bitleak.tools.brevitas_tool import quantize_with_brevitas

        narrow = applied(quantize_with_brevitas, bits=2).record["levels_counted"]
        wide = applied(quantize_with_brevitas, bits=2, symmetric=False).record["levels_counted"]
        assert max(narrow.values()) == 3
        assert max(wide.values()) == 4

    def test_other_widths_are_refused(self, applied):
        from bitleak.tools.brevitas_tool import quantize_with_brevitas

        with pytest.raises(QuantizationError, match="bits must be an integer from 2 to 8, got 1"):
            applied(quantize_with_brevitas, bits=1)


class TestTorchao:
    @pytest.fixture(autouse=True)
    def packages(self):
        pytest.importorskip("torchao", reason="needs bitleak[torchao]")

    @pytest.mark.parametrize(("bits", "levels"), [(8, 255), (4, 16)])
    def test_only_linear_layers_are_quantized(self, applied, network, bits, levels):
        from bitleak.tools.torchao_tool import quantize_weights

        result = applied(quantize_weights, bits=bits)
        assert isinstance(result, Weights)
        assert list(result.record["levels_counted"]) == ["classifier"]
        assert result.record["levels_counted"]["classifier"] <= levels
        assert "conv" in result.record["float_layers"]
        weight = result.tensors["classifier.weight"]
        rows = max(len(np.unique(row)) for row in weight)
        assert rows <= levels
        before = network.classifier.weight.detach().numpy()
        step = np.abs(before).max(axis=1, keepdims=True) / (levels // 2)
        assert (np.abs(weight - before) <= 1.01 * step).all()
