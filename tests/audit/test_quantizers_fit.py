"""A network that a quantizer would refuse is refused before anything is trained, with the spelling that mends it."""

import pytest

from bitleak.audit.preparation import prepare
from bitleak.config import validate
from bitleak.core.errors import ConfigError

ZOO = """
import torch
from torch import nn
from torch.nn import functional as F

class Same(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias)

class Offset(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, 1 + self.weight, self.bias, self.training)

class Net(nn.Module):
    def __init__(self, num_classes=10, in_chans=1, stem=nn.Conv2d, norm=nn.BatchNorm2d):
        super().__init__()
        self.stem, self.norm, self.head = stem(in_chans, 4, 2), norm(4), nn.Linear(4, num_classes)
    def forward(self, x):
        return self.head(F.relu(self.norm(self.stem(x))).mean((2, 3)))

def plain(num_classes, in_chans): return Net(num_classes, in_chans)
def same(num_classes, in_chans): return Net(num_classes, in_chans, stem=Same)
def offset(num_classes, in_chans): return Net(num_classes, in_chans, norm=Offset)

def tied(num_classes, in_chans):
    network = plain(num_classes, in_chans)
    network.decoder = nn.ConvTranspose2d(4, in_chans, 2)
    network.decoder.weight = network.stem.weight
    return network

class Routed(nn.Module):
    def __init__(self, num_classes, in_chans, skip):
        super().__init__()
        self.skip = skip
        self.gate = nn.Linear(64 * in_chans, 3)
        self.experts = nn.ModuleList(nn.Linear(64 * in_chans, num_classes) for _ in range(3))
    def forward(self, x):
        x = x.flatten(1)
        chosen, answers = self.gate(x).argmax(1), x.new_zeros(len(x), self.experts[0].out_features)
        for number, expert in enumerate(self.experts):
            if not self.skip or (chosen == number).any():
                answers = answers.index_put((torch.where(chosen == number)[0],), expert(x[chosen == number]))
        return answers

def skipped(num_classes, in_chans): return Routed(num_classes, in_chans, skip=True)
def emptied(num_classes, in_chans): return Routed(num_classes, in_chans, skip=False)

class Equal(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, in_chans, 3, 3))
        self.head = nn.Linear(16, num_classes)
    def forward(self, x):
        return self.head(F.conv2d(x, self.weight / 3).mean((2, 3)))

def auxiliary(num_classes, in_chans):
    network = plain(num_classes, in_chans)
    network.aux = nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))
    return network
"""


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    (tmp_path / "fitting_zoo.py").write_text(ZOO)
    monkeypatch.syspath_prepend(tmp_path)

    def run(factory, quantizer, **fields):
        raw = {
            "data": {"name": "digits", "limit": 200},
            "split": {"models": 6, "targets": 2, "population": 20},
            "model": {"name": "external", "factory": f"fitting_zoo:{factory}", "version": "1"},
            "quantize": [{"name": quantizer, "levels": [3], **fields}],
            "calibration": {"records": 32},
        }
        return prepare(validate(raw), device="cpu")

    return run


@pytest.mark.parametrize(
    ("factory", "quantizer", "message", "name"),
    [
        ("same", "rtn", "layer 'stem' cannot be taken for a Conv2d", "stem"),
        (
            "tied",
            "gptq",
            "layer 'stem' shares the memory of its weight with 'decoder.weight'",
            "stem",
        ),
        ("auxiliary", "adaround", "layer 'aux.1' is never called", "aux.1"),
        ("offset", "brecq", "batch norm 'norm' cannot be folded into layer 'stem'", "norm"),
        ("offset", "obc", "batch norm 'norm' cannot be re-estimated", "norm"),
    ],
)
def test_what_a_quantizer_would_refuse_is_refused_before_training_and_named_it_is_planned(
    prepared, factory, quantizer, message, name
):
    with pytest.raises(ConfigError, match=f"quantize: {quantizer}-1.58: {message}") as refused:
        prepared(factory, quantizer)
    assert f'layers: {{"{name}": fp32}}' in str(refused.value)
    found = prepared(factory, quantizer, layers={name: "fp32"})
    assert [entry.variant for entry in found.config.quantize] == [f"{quantizer}-1.58+{name}fp32"]


def test_a_norm_of_its_own_is_no_matter_to_what_leaves_norms_alone(prepared):
    assert prepared("offset", "rtn").plan.tasks
    assert prepared("offset", "obc", reestimate="none").plan.tasks


@pytest.mark.parametrize("factory", ["skipped", "emptied"])
@pytest.mark.parametrize("quantizer", ["gptq", "adaround"])
def test_an_expert_that_serves_few_images_is_no_layer_that_is_never_called(
    prepared, factory, quantizer
):
    layers = prepared(factory, quantizer).network.layers
    assert len(layers) == 4


def test_weights_that_no_codes_replace_are_counted_before_work_unless_they_are_left_out_by_name(
    prepared,
):
    (warning,) = prepared("Equal", "rtn").warnings
    assert warning.startswith(
        "Only 160 of 304 weights (53 %) become codes; the others stay float32 (weight, 144 numbers)"
    )
    assert prepared("plain", "rtn").warnings == ()
    assert prepared("auxiliary", "rtn", layers={"aux": "fp32"}).warnings == ()
