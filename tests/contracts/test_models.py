"""What every entry of the registry's MODELS must do."""

import sys
import types
from collections import Counter

import numpy as np
import pytest
import torch
from torch import fx, nn

from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build, load, profile, state
from bitleak.registry import MODELS

SMALL = {"resnet18": {"width": 8}, "vgg11_bn": {"width": 8}, "mobilenet_v2": {"width": 0.25}}
CASES = [(name, 7, 3, 16) for name in MODELS] + [
    ("cnn", 3, 1, 8),
    ("mobilenet_v2", 3, 1, 8),
    ("vgg11_bn", 3, 1, 8),
    ("mlp", 5, 12, 0),  # rows of a table with 12 columns
]


@pytest.fixture(params=CASES, ids=lambda p: "-".join(map(str, p)))
def spec(request, monkeypatch):
    name, classes, channels, size = request.param
    options = SMALL.get(name, {})
    if name == "external":
        module = types.ModuleType("contract_zoo")
        module.net = lambda num_classes, in_chans: nn.Sequential(
            nn.Conv2d(in_chans, 4, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, num_classes),
        )
        monkeypatch.setitem(sys.modules, "contract_zoo", module)
        options = {"factory": "contract_zoo:net"}
    return ModelSpec(name, options, classes, channels, size, (0.5,) * channels, (0.25,) * channels)


def test_logits_have_one_column_per_class_and_depend_on_the_image(spec):
    network = build(spec, seed=0)
    assert network.training
    images = torch.randn(3, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    assert logits.shape == (3, spec.classes)
    assert logits.dtype == torch.float32
    assert not torch.allclose(logits[0], logits[1])


def test_the_state_makes_the_round_trip_bit_for_bit(spec):
    network = build(spec, seed=1)
    network(torch.randn(4, *spec.input_shape))
    tensors = state(network)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in tensors.values())
    again = state(load(Weights(tensors, spec), allow_external=True))
    assert list(again) == list(network.state_dict())
    for name, array in tensors.items():
        assert array.dtype == again[name].dtype
        assert array.shape == again[name].shape
        assert np.array_equal(array, again[name])


def test_the_traced_network_gives_the_same_logits_and_calls_no_module_twice(spec):
    network = build(spec, seed=0).eval()
    traced = fx.symbolic_trace(network)
    images = torch.randn(2, *spec.input_shape)
    with torch.no_grad():
        assert torch.equal(traced(images), network(images))
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    assert max(calls.values()) == 1
    assert not [node for node in traced.graph.nodes if node.op == "call_method"]


def test_the_last_layer_of_the_pass_is_the_linear_classifier(spec):
    network = build(spec, seed=0)
    layers = profile(spec).layers
    last = network.get_submodule(list(layers)[-1])
    assert isinstance(last, nn.Linear)
    assert last.out_features == spec.classes
    quantizable = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    assert set(layers) == set(quantizable)
    assert profile(spec).parameters == sum(parameter.numel() for parameter in network.parameters())
