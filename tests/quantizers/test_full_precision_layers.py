"""Layers and batch norms that keep full precision since the scheme names them, and those that are refused without."""

import copy
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bitleak
from bitleak.config import validate
from bitleak.core.errors import ConfigError, QuantizationError
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.network.norm_folding import check_folded, fold
from bitleak.quantizers.shared_pass import quantize_together

KINDS = {
    "rtn": bitleak.RoundToNearest(levels=3),
    "adaround": bitleak.AdaRound(levels=3, iterations=20),
    "brecq": bitleak.BRECQ(levels=3, iterations=10),
    "obc": bitleak.OBC(levels=3),
    "gptq": bitleak.GPTQ(levels=3),
    "obc, quantized inputs": bitleak.OBC(levels=3, inputs="quantized"),
}


class Same(nn.Conv2d):
    """Pads by the size of its input."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, None, self.stride)


class Cosine(nn.Linear):
    def forward(self, x):
        return 8 * F.linear(F.normalize(x), F.normalize(self.weight))


class Offset(nn.BatchNorm2d):
    """Keeps gamma as the difference from 1."""

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, 1 + self.weight, self.bias, False, 0.1, self.eps
        )


class Network(nn.Module):
    def __init__(self, *, stem=nn.Conv2d, norm=nn.BatchNorm2d, head=nn.Linear):
        super().__init__()
        self.stem, self.b1 = stem(1, 4, 2, bias=False), norm(4)
        self.body, self.b2 = nn.Conv2d(4, 6, 3, stride=2, bias=False), norm(6)
        self.aux = nn.Sequential(
            nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 3)
        )  # in training only
        self.middle, self.head = nn.Linear(6, 8), head(8, 3)
        for b in (self.b1, self.b2):
            (
                nn.init.uniform_(b.running_mean),
                nn.init.uniform_(b.running_var, 0.5, 2),
                nn.init.normal_(b.weight),
            )

    def forward(self, x):
        x = F.relu(self.b1(self.stem(x)))
        x = F.relu(self.b2(self.body(x))).mean((2, 3))
        return self.head(F.relu(self.middle(x)))


def network(**parts):
    torch.manual_seed(0)
    return Network(**parts).eval()


def images(count=24):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def quantized(kind, model, **fields):
    quantizer = replace(KINDS[kind], **fields)
    return quantizer(model, images(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_named_keeps_full_precision_and_all_else_is_on_its_grid(kind):
    model = network(stem=Same, head=Cosine, norm=Offset)
    found = quantized(
        kind, model, layers={"stem": "fp32", "head": "fp32", "aux": "fp32", "b?": "fp32"}
    )
    assert set(found.layers) == {"body", "middle"}
    assert set(found.full_precision) == {"stem", "aux.0", "aux.2", "head"}
    tensors = found.dequantize().tensors
    for name, value in model.state_dict().items():
        if name not in ("body.weight", "middle.weight"):
            assert np.array_equal(tensors[name], value), name
    assert max(len(np.unique(row)) for row in tensors["body.weight"].reshape(6, -1)) <= 3
    assert torch.isfinite(deployed(model, found)(images())).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_its_own_is_refused_with_the_spelling_that_leaves_it_out(kind):
    model = network(stem=Same, head=Cosine)
    with pytest.raises(
        QuantizationError, match="layer 'stem' cannot be taken for a Conv2d: its class Same has"
    ) as told:
        quantized(kind, model)
    assert 'layers: {"stem": fp32, "head": fp32}' in str(told.value)


@pytest.mark.parametrize("kind", ["brecq", "obc", "gptq", "obc, quantized inputs"])
def test_a_norm_of_its_own_is_refused_where_it_would_be_folded_or_re_estimated(kind):
    with pytest.raises(
        QuantizationError, match=r"batch norm 'b1' cannot be .*: its class Offset has"
    ) as told:
        quantized(kind, network(norm=Offset), layers={"aux": "fp32"})
    assert 'layers: {"b1": fp32, "b2": fp32}' in str(told.value)


def test_many_norms_are_left_out_by_a_pattern_that_matches_them_alone():
    def named(last):
        block = lambda: nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 1, 1), norm=Offset(1)))  # noqa: E731
        return nn.Sequential(block(), block(), block(), block(), plain_norm(last))

    for last, option in (
        ("pool", '"*norm": fp32}'),
        ("renorm", '"0.norm": fp32, "1.norm": fp32, "2.norm": fp32'),
    ):
        with pytest.raises(QuantizationError) as told:
            bitleak.OBC(levels=3)(named(last), images(), torch.Generator())
        assert "layers: {" + option in str(told.value)


def plain_norm(name):
    """A plain batch norm under a name."""
    return nn.Sequential(OrderedDict([(name, nn.BatchNorm2d(1))]))


def test_256_levels_keep_the_answers_of_a_network_with_norms_of_its_own():
    model = network(norm=Offset)
    for kind in KINDS:
        found = quantized(
            kind, model, levels=256, layers={"aux": "fp32", "b1": "fp32", "b2": "fp32"}
        )
        apart = deployed(model, found)(images()) - model(images())
        assert apart.abs().max() < 0.05 * model(images()).abs().max(), kind


def test_heads_that_never_run_in_evaluation_are_refused_with_the_spelling():
    with pytest.raises(QuantizationError, match=r'layers: {"aux\.0": fp32}'):
        quantized("gptq", network())


def test_a_layer_that_is_called_twice_may_keep_full_precision():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.again, self.head = nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 3)

        def forward(self, x):
            return self.head(self.again(self.again(self.flat(x))))

    torch.manual_seed(0)
    for kind in KINDS:
        assert set(quantized(kind, Twice(), layers={"again": "fp32"}).layers) == {"head"}


def test_last_means_the_layer_that_is_executed_last_of_all():
    left = {"aux": "fp32", "head": "fp32"}
    for kind in KINDS:
        found = quantized(kind, network(), last=256, layers=left)
        assert {name: layer.levels for name, layer in found.layers.items()} == {
            "stem": 3,
            "body": 3,
            "middle": 3,
        }


def test_precisions_that_leave_out_other_layers_share_one_pass_and_are_those_of_each_alone():
    model = network()
    some = [
        bitleak.GPTQ(levels=4, layers={"aux": "fp32"}),
        bitleak.OBC(levels=3, layers={"aux": "fp32", "stem": "fp32"}),
        bitleak.GPTQ(levels=3, layers={"aux*": "fp32", "middle": "fp32", "b2": "fp32"}),
    ]
    calls = []
    together = quantize_together(
        some,
        model,
        images(),
        [torch.Generator()] * 3,
        on_layer=lambda name, index, total: calls.append((index, total)),
    )
    for quantizer, found in zip(some, together, strict=True):
        alone = quantizer(model, images(), torch.Generator()).dequantize().tensors
        assert found.dequantize().tensors.keys() == alone.keys()
        assert all(
            np.array_equal(value, alone[name]) for name, value in found.dequantize().tensors.items()
        )
    assert calls == [(index, 10) for index in range(10)]


def test_bytes_and_bits_count_the_weights_that_keep_full_precision():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32, bias=False), nn.Linear(32, 2, bias=False))
    found = bitleak.RoundToNearest(levels=4, layers={"2": "fp32"})(
        model, images(1), torch.Generator()
    )
    codes, grids = 64 * 32 * 2 / 8, 32 * 5
    assert weights_size(found) == {
        "bytes": codes + grids + 4 * 64,
        "bits_per_weight": 8 * (codes + grids + 4 * 64) / (64 * 32 + 64),
    }


def test_a_pattern_that_leaves_out_nothing_is_refused():
    with pytest.raises(
        QuantizationError,
        match=r"layers\['haed'\] matches no layer and no batch norm; there are stem",
    ):
        quantized("rtn", network(), layers={"haed": "fp32"})


def test_a_config_names_the_layer_and_so_does_the_label():
    raw = {"data": {"name": "digits"}, "model": {"name": "cnn"}}
    config = validate(
        {**raw, "quantize": [{"name": "obc", "levels": 3, "layers": {"stem": "fp32", "body*": 16}}]}
    )
    assert config.quantize[0].variant == "obc-1.58+stemfp32+body*4"
    assert config.quantize[0].options["layers"] == {"stem": "fp32", "body*": 16}
    with pytest.raises(
        ConfigError, match="a mapping of text to a whole number or 'fp32', got 'half'"
    ):
        validate({**raw, "quantize": [{"name": "obc", "levels": 3, "layers": {"stem": "half"}}]})


class Batchwise(nn.Module):
    """Holds a plain norm that stays in training mode whatever it is told."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def train(self, mode=True):
        super().train(mode)
        self.norm.training = True
        return self

    def forward(self, x):
        return self.norm(self.conv(x)).mean((2, 3))


def test_a_folded_network_that_answers_otherwise_is_refused_by_the_name_of_the_norm():
    torch.manual_seed(0)
    model = Batchwise()
    with pytest.raises(
        QuantizationError, match="batch norm 'norm' gives other outputs once batch norms are folded"
    ):
        bitleak.BRECQ(levels=256)(model, images(), torch.Generator())


def test_folding_plain_norms_is_found_to_change_nothing():
    model = network()
    check_folded(model, fold(model, images()), images())
    wrong = copy.deepcopy(fold(model, images()))
    wrong.b2.running_mean += 0.1
    with pytest.raises(QuantizationError, match=r'"b2": fp32'):
        check_folded(model, wrong, images())
