import pydantic
import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.scheme import Scheme, layer_levels, quantizable


def test_layers_come_in_the_order_of_definition_with_qualified_names():
    network = nn.ModuleDict(
        {"b": nn.Linear(2, 2), "a": nn.Sequential(nn.ReLU(), nn.Conv1d(1, 1, 1), nn.BatchNorm1d(1))}
    )
    assert list(quantizable(network)) == ["b", "a.1"]


def test_a_module_under_two_names_is_refused_by_both_names():
    layer = nn.Linear(2, 2)
    with pytest.raises(QuantizationError, match=r"'first' and 'second'"):
        quantizable(nn.ModuleDict({"first": layer, "second": layer}))


def test_two_modules_with_one_weight_are_refused():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    with pytest.raises(QuantizationError, match="'0' and '1' share one weight"):
        quantizable(network)


def test_a_network_without_layers_is_refused():
    with pytest.raises(QuantizationError, match="no convolution or linear layer"):
        quantizable(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_names_its_layer(value):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight[0, 1] = value
    with pytest.raises(QuantizationError, match="layer '1': the weight"):
        quantizable(network)


def test_a_parametrized_weight_is_refused():
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(QuantizationError, match="layer '0': its weight is computed"):
        quantizable(network)


def test_the_first_matching_pattern_wins_over_later_ones_and_over_last():
    scheme = Scheme(levels=3, last=256, layers={"block.*": 4, "*": 8})
    assert layer_levels(scheme, ["stem", "block.0", "head"]) == {"stem": 8, "block.0": 4, "head": 8}


def test_last_is_the_last_in_execution():
    assert layer_levels(Scheme(levels=3, last=16), ["b", "a"]) == {"b": 3, "a": 16}


def test_a_pattern_without_a_match_is_refused():
    with pytest.raises(
        QuantizationError, match=r"layers\['haed'\] matches no layer; the layers are stem, head"
    ):
        layer_levels(Scheme(layers={"haed": 4}), ["stem", "head"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": 1}, "levels must be an integer from 2 to 256, got 1"),
        ({"last": 257}, "last must be"),
        ({"layers": {"fc": 0}}, r"layers\['fc'\] must be"),
    ],
)
def test_levels_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Scheme(**fields)


def test_a_config_becomes_a_scheme():
    scheme = pydantic.TypeAdapter(Scheme).validate_python(
        {"levels": 3, "layers": {"fc": 16}, "grid": "paper"}
    )
    assert scheme == Scheme(levels=3, layers={"fc": 16}, grid="paper")
