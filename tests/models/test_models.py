import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build, load, profile, state


def spec(name="cnn", options=None, *, classes=10, channels=3, size=32):
    return ModelSpec(
        name, options or {}, classes, channels, size, (0.5,) * channels, (0.25,) * channels
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_173_962),
        ("resnet20", 269_722),
        ("vgg11_bn", 9_231_114),
        ("mobilenet_v2", 2_236_682),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    assert profile(spec(name)).parameters == parameters


def test_multiply_adds_of_resnet18_follow_from_its_table():
    def stage(inputs, outputs, size, shortcut):
        return size**2 * (9 * outputs * (inputs + 3 * outputs) + shortcut * inputs * outputs)

    table = [(64, 64, 32, 0), (64, 128, 16, 1), (128, 256, 8, 1), (256, 512, 4, 1)]
    expected = 32**2 * 27 * 64 + sum(stage(*row) for row in table) + 512 * 10
    assert profile(spec("resnet18")).multiply_adds == expected


def test_a_profile_names_every_layer_with_its_weight_as_a_matrix():
    layers = profile(spec("mobilenet_v2", {"width": 0.25})).layers
    network = build(spec("mobilenet_v2", {"width": 0.25}), seed=0)
    expected = {
        name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    assert layers == {name: tuple(m.weight.flatten(1).shape) for name, m in expected.items()}
    assert (32, 9) not in layers.values()
    assert layers["group2.0.body.depthwise_conv"] == (48, 9)


@pytest.mark.parametrize(("size", "last"), [(8, 4), (15, 8), (16, 4), (32, 8)])
def test_the_last_map_of_the_small_network_is_at_least_4_pixels_wide(size, last):
    network = build(spec(size=size), seed=0)
    maps = torch.zeros(2, 3, size, size)
    for name, module in network.named_children():
        if name == "pool":
            break
        maps = module(maps)
    assert maps.shape[2:] == (last, last)


def test_the_padding_shortcut_takes_every_second_pixel_and_adds_zero_channels():
    shortcut = build(spec("resnet20"), seed=0).get_submodule("stage2.0.shortcut")
    maps = torch.randn(2, 16, 8, 8)
    out = shortcut(maps)
    assert torch.equal(out[:, 8:24], maps[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()
    assert out.shape == (2, 32, 4, 4)


def test_the_seed_alone_decides_the_initialisation():
    torch.manual_seed(1)
    first = state(build(spec(), seed=3))
    torch.manual_seed(2)
    again, other = state(build(spec(), seed=3)), state(build(spec(), seed=4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["conv.weight"], other["conv.weight"])


@pytest.mark.parametrize("act", [lambda: build(spec(), seed=3), lambda: profile(spec())])
def test_the_global_generator_is_left_as_it_was(act):
    before = torch.random.get_rng_state()
    act()
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_a_seed_the_global_generator_is_used():
    torch.manual_seed(5)
    first = build(spec())
    second = build(spec())
    torch.manual_seed(5)
    assert torch.equal(first.conv.weight, build(spec()).conv.weight)
    assert not torch.equal(first.conv.weight, second.conv.weight)


def test_loaded_weights_are_copies_even_of_read_only_arrays():
    tensors = state(build(spec(), seed=0))
    for array in tensors.values():
        array.flags.writeable = False
    network = load(Weights(tensors, spec()))
    assert not network.training
    with torch.no_grad():
        network.conv.weight.zero_()
    assert tensors["conv.weight"].any()


def test_a_state_is_a_copy():
    network = build(spec(), seed=0)
    tensors = state(network)
    before = tensors["conv.weight"].copy()
    with torch.no_grad():
        network.conv.weight.zero_()
    assert np.array_equal(tensors["conv.weight"], before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"conv.weight": np.zeros((1, 2, 3, 3), np.float32)},
            r"'conv.weight' .* shape \(16, 3, 3, 3\), got \(1, 2, 3, 3\)",
        ),
        ({"conv.weight": None}, "'conv.weight' of model cnn is missing"),
        (
            {"convv.weight": np.zeros(3, np.float32)},
            "'convv.weight' of the weights is not part of model cnn",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, message):
    tensors = {**state(build(spec(), seed=0)), **change}
    tensors = {name: array for name, array in tensors.items() if array is not None}
    with pytest.raises(ModelError, match=message):
        load(Weights(tensors, spec()))


def test_weights_without_a_spec_are_refused():
    with pytest.raises(ModelError, match="without a spec"):
        load(Weights({}))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (spec("resnet81"), "unknown model 'resnet81': did you mean 'resnet18'"),
        (spec(options={"widht": 3}), "unknown option of model cnn 'widht': did you mean 'width'"),
        (spec(options={"width": 0}), "width must be an integer of at least 1, got 0"),
        (spec(options={"depth": "2"}), "depth"),
        (spec("mobilenet_v2", {"width": 0.0}), r"width must be a number in \[0.1, 4.0\], got 0.0"),
        (spec(size=7), "size of the images for model cnn must be an integer of at least 8, got 7"),
        (spec(classes=1), "classes must be an integer of at least 2, got 1"),
        (spec("external"), "model external needs the option 'factory'"),
        (
            spec("external", {"factory": "zoo:net", "vresion": "1"}),
            "unknown option of model external 'vresion'",
        ),
    ],
)
def test_bad_specs_are_refused_with_what_was_expected(bad, message):
    with pytest.raises(ModelError, match=message):
        build(bad, seed=0)


class Flat(nn.Sequential):
    def __init__(self, classes, channels, size):
        super().__init__(nn.Flatten(), nn.Linear(channels * size**2, classes))


def timm_style(num_classes=1000, in_chans=3, **other):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))


@pytest.fixture
def zoo(monkeypatch):
    module = types.ModuleType("zoo")
    module.Flat, module.timm_style = Flat, timm_style
    module.loose = lambda **options: timm_style(**options)
    module.wrong_signature = lambda width: None
    module.no_network = lambda num_classes, in_chans: "hello"
    module.seven_classes = lambda num_classes, in_chans: timm_style(7, in_chans)
    module.only_grey = lambda num_classes, in_chans: timm_style(num_classes, 1)
    module.broken = lambda num_classes, in_chans: 1 // 0
    module.number = 3
    monkeypatch.setitem(sys.modules, "zoo", module)


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize("factory", ["Flat", "timm_style", "loose"])
def test_a_factory_of_either_signature_makes_the_network(factory):
    external = spec("external", {"factory": f"zoo:{factory}"})
    network = build(external, seed=0)
    assert network.training
    assert network(torch.zeros(5, 3, 32, 32)).shape == (5, 10)
    assert list(profile(external).layers.values())[-1][0] == 10
    again = load(Weights(state(network), external), allow_external=True)
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items()
    )


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zoo", "factory must be 'timm:NAME' or 'package.module:factory', got 'zoo'"),
        ("zoo:", "factory must be 'timm:NAME' or 'package.module:factory', got 'zoo:'"),
        ("zoo:nothing", "module zoo has no function or class 'nothing'"),
        ("zoo:number", "module zoo has no function or class 'number'"),
        ("no_such_module:factory", "cannot import no_such_module"),
        (
            "zoo:wrong_signature",
            "zoo:wrong_signature needs width, which options must give; the data's shape is offered",
        ),
        ("__main__:net", "is in the script that was started; put it in a module of its own"),
        ("zoo:no_network", r"must make a torch.nn.Module, got str"),
        ("zoo:seven_classes", r"with shape \(4, 10\), got float32 of shape \(4, 7\)"),
        ("zoo:only_grey", "does not take 2 images of 3x32x32"),
        ("zoo:broken", "cannot be built: ZeroDivisionError"),
    ],
)
def test_external_networks_that_do_not_fit_are_refused(name, message):
    with pytest.raises(ModelError, match=message):
        build(spec("external", {"factory": name}), seed=0)


def test_a_timm_that_is_missing_is_said_to_be(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"cannot import timm: .*install timm"):
        build(spec("external", {"factory": "timm:resnet18"}), seed=0)


def test_a_timm_name_goes_to_its_create_model(monkeypatch):
    asked = []

    def create_model(model_name, pretrained=False, **options):
        asked.append((model_name, pretrained, options))
        return timm_style(**options)

    timm = types.ModuleType("timm")
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    build(replace(spec("external", {"factory": "timm:resnet26"}), classes=7), seed=0)
    assert asked
    assert all(call == ("resnet26", False, {"num_classes": 7, "in_chans": 3}) for call in asked)
