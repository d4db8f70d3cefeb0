"""Every quantizer on every kind of layer: a convolution is a linear layer on its patches, one per group."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.core.types import ModelSpec
from bitleak.models import build
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.grid import grid_for, to_codes
from bitleak.quantizers.layers.gram import gram
from bitleak.quantizers.network.norm_statistics import reestimate
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest

# contracts/test_quantizers.py checks the shapes and types of the same functions
pytestmark = pytest.mark.usefixtures("shapes_unchecked")

METHODS = {
    "rtn": RoundToNearest(),
    "adaround": AdaRound(iterations=60, learning_rate=0.2, regularization=0.1),
    "brecq": BRECQ(iterations=40, regularization=0.3, batch=16),
    "obc": OBC(),
    "obc-quantized": OBC(inputs="quantized"),
    "gptq": GPTQ(order="index"),  # equal inputs would be ordered by their rounding errors
}

LAYERS = {
    "pointwise": (lambda: nn.Conv2d(6, 4, 1), (6, 4, 5)),
    "pointwise, strided": (lambda: nn.Conv2d(6, 4, 1, 2), (6, 5, 6)),
    "oblong": (lambda: nn.Conv2d(3, 4, (1, 5), padding=(0, 2)), (3, 4, 7)),
    "strided": (lambda: nn.Conv2d(3, 4, 3, 2, 1), (3, 7, 6)),
    "dilated": (lambda: nn.Conv2d(3, 4, 3, padding=2, dilation=2), (3, 6, 7)),
    "strided and dilated": (lambda: nn.Conv2d(2, 4, 2, (1, 2), (1, 0), (2, 3)), (2, 6, 7)),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, padding=1, groups=3), (6, 5, 4)),
    "depthwise": (lambda: nn.Conv2d(5, 5, 3, padding=1, groups=5), (5, 6, 5)),
    "depthwise, two filters each": (lambda: nn.Conv2d(3, 6, 5, 2, 2, groups=3), (3, 6, 7)),
    "same": (lambda: nn.Conv2d(3, 4, (2, 3), padding="same"), (3, 5, 4)),
    "same, dilated, grouped": (
        lambda: nn.Conv2d(4, 4, 2, padding="same", dilation=3, groups=2),
        (4, 6, 5),
    ),
    "reflect": (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect"), (3, 4, 5)),
    "circular": (lambda: nn.Conv2d(3, 4, 3, 2, 1, padding_mode="circular"), (3, 6, 5)),
    "replicate, same": (
        lambda: nn.Conv2d(3, 4, 4, padding="same", padding_mode="replicate"),
        (3, 5, 5),
    ),
    "1-d": (lambda: nn.Conv1d(4, 5, 3, padding=1), (4, 9)),
    "1-d, circular, dilated, grouped": (
        lambda: nn.Conv1d(4, 6, 3, padding=2, dilation=2, groups=2, padding_mode="circular"),
        (4, 9),
    ),
    "3-d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 3, 4, 3)),
    "3-d, strided, depthwise": (lambda: nn.Conv3d(3, 3, 3, (1, 2, 1), 1, groups=3), (3, 4, 5, 4)),
    "linear": (lambda: nn.Linear(12, 5), (12,)),
    "linear on tokens": (lambda: nn.Linear(12, 8), (4, 12)),
    "linear on maps": (lambda: nn.Linear(8, 5), (3, 2, 8)),
}


def correlated(records, *shape):
    """Inputs that differ more from record to record than within one, so that errors can make up for each other."""
    return torch.randn(records, *shape) + 2 * torch.randn(records, *[1] * len(shape))


@pytest.fixture(scope="module", params=LAYERS)
def case(request):
    """A layer and inputs of it."""
    make, shape = LAYERS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(), correlated(40, *shape)


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def run(quantizer, network, images, **fields):
    return replace(quantizer, **fields)(network.eval(), images, torch.Generator().manual_seed(0))


def padded(layer, inputs):
    """The inputs with the padding that the layer describes, carried out."""
    if layer.padding == "same":  # the odd one goes to the end
        amounts = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        ends = [(amount // 2, amount - amount // 2) for amount in amounts]
    else:
        ends = [(amount, amount) for amount in layer.padding]
    flat = [end for pair in reversed(ends) for end in pair]
    return F.pad(
        inputs, flat, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode
    )


def patches(layer, inputs):
    """What each group's weights are multiplied with, position after position, taken by index: a list of matrices."""
    if isinstance(layer, nn.Linear):
        return [inputs.reshape(-1, inputs.shape[-1])]
    images = padded(layer, inputs)
    axes = list(zip(images.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True))
    starts = [
        range(0, size - dilation * (taps - 1), stride) for size, taps, stride, dilation in axes
    ]
    rows = []
    for position in itertools.product(*starts):
        patch = images
        for axis, (first, (_, taps, _, dilation)) in enumerate(
            zip(position, axes, strict=True), start=2
        ):
            patch = patch.index_select(
                axis, torch.tensor([first + dilation * tap for tap in range(taps)])
            )
        rows.append(patch)
    parts = torch.stack(rows, 1).flatten(0, 1).chunk(layer.groups, 1)
    return [part.flatten(1) for part in parts]  # groups of (positions, columns)


def relative_error(layer, quantized, inputs):
    """Of the layer's output without its bias."""
    with torch.no_grad():
        change = layer(inputs) - deployed(nn.Sequential(layer), quantized)(inputs)
        energy = sum(
            (part.double() @ rows.double().T).square().sum()
            for part, rows in zip(patches(layer, inputs), _rows(layer), strict=True)
        )
    return float(change.double().square().sum() / energy)


def _rows(layer):
    return layer.weight.detach().flatten(1).chunk(getattr(layer, "groups", 1))


def test_patches_times_weights_are_the_output_and_their_squares_the_gram_matrix(case):
    layer, inputs = case
    columns = patches(layer, inputs)
    outputs = (
        torch.cat([part @ rows.T for part, rows in zip(columns, _rows(layer), strict=True)], 1)
        + layer.bias
    )
    with torch.no_grad():
        expected = layer(inputs)
    wanted = expected.reshape(-1, len(layer.weight))
    if not isinstance(layer, nn.Linear):
        wanted = expected.flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(outputs, wanted, rtol=1e-4, atol=1e-4)
    squares = torch.stack([part.double().T @ part.double() for part in columns])
    torch.testing.assert_close(
        gram(layer, inputs), squares, rtol=1e-5, atol=1e-5 * float(squares.max())
    )


@pytest.mark.parametrize("name", ["obc", "gptq", "obc-quantized"])
def test_codes_are_those_of_a_linear_layer_on_the_patches_of_each_group(case, name):
    layer, inputs = case
    quantizer = METHODS[name]
    together = run(quantizer, nn.Sequential(layer), inputs, levels=4).layers["0"].codes
    codes = []
    for part, rows in zip(patches(layer, inputs), _rows(layer), strict=True):
        alone = nn.Sequential(nn.Linear(*reversed(rows.shape), bias=False))
        alone[0].weight.data = rows.clone()
        codes.append(run(quantizer, alone, part, levels=4).layers["0"].codes)
    assert np.array_equal(together.reshape(len(together), -1), np.concatenate(codes))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "rtn"])
def test_every_quantizer_brings_the_output_closer_than_rounding_to_the_nearest(case, name):
    layer, inputs = case
    method, network = METHODS[name], nn.Sequential(layer)
    found, nearest = (run(each, network, inputs, levels=4) for each in (method, METHODS["rtn"]))
    error, limit = (relative_error(layer, each, inputs) for each in (found, nearest))
    assert error < 0.85 * limit
    if name != "brecq":  # whose error is relative to the output with the bias
        assert found.record["0"]["relative_error"] == pytest.approx(error, rel=1e-3)


VARIANTS = [{"granularity": "tensor"}, {"symmetric": True}, {"grid": "paper"}]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
@pytest.mark.parametrize("levels", [2, 256])
@pytest.mark.parametrize("kind", ["grouped", "linear on tokens"])
def test_the_fewest_and_the_most_levels_on_every_kind_of_grid(kind, method, levels, fields):
    make, shape = LAYERS[kind]
    torch.manual_seed(1)
    layer, inputs = make(), correlated(30, *shape)
    quantized = run(method, nn.Sequential(layer), inputs, levels=levels, **fields)
    found = quantized.layers["0"]
    assert found.levels == levels
    assert found.codes.max() < levels
    assert found.scale.shape == (1 if "granularity" in fields else len(layer.weight),)
    assert np.isfinite(found.dequantize()).all()
    error = relative_error(layer, quantized, inputs)
    assert error < 1e-3 if levels == 256 else error > 0.01
    if isinstance(method, RoundToNearest):
        weight = layer.weight.detach()
        grid = grid_for(replace(method, levels=levels, **fields), weight, levels)
        assert np.array_equal(found.codes, to_codes(weight, grid).numpy())


class Twice(nn.Module):
    """One layer at two places."""

    def __init__(self, share):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        share(self)

    def forward(self, images):
        return self.head(self.second(self.first(images).relu()).relu())


class Again(Twice):
    def forward(self, images):
        return self.head(self.second(self.first(self.first(images)).relu()).relu())


def by_module(network):
    network.second = network.first


def by_weight(network):
    network.second.weight = network.first.weight


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: Twice(by_module), "layers 'first' and 'second' share one weight"),
        (lambda: Twice(by_weight), "layers 'first' and 'second' share one weight"),
        (lambda: Again(lambda network: None), "layer 'first' is (used|called) 2 times"),
    ],
    ids=["one module with two names", "two modules with one weight", "one module called twice"],
)
def test_a_weight_used_at_two_places_is_refused_by_every_quantizer(method, network, message):
    with pytest.raises(QuantizationError, match=message):
        run(method, network(), torch.randn(8, 6))


@pytest.mark.parametrize("levels", [2, 5])
def test_a_group_and_a_token_feature_that_are_always_zero_do_no_harm(method, levels):
    torch.manual_seed(0)
    depthwise, grouped, head = (
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Linear(9, 3),
    )
    network = nn.Sequential(
        depthwise, nn.ReLU(), grouped, nn.Flatten(2), head, nn.Flatten(), nn.Linear(12, 3)
    )
    images = torch.randn(20, 4, 5, 5)
    images[:, 2] = 0  # the only input of the depthwise convolution's third group
    with torch.no_grad():
        depthwise.bias[2:] = -9.0  # the ReLU closes both channels of the second group
    quantized = run(method, network, images, levels=levels)
    assert all(np.isfinite(array).all() for array in quantized.dequantize().tensors.values())
    errors = [
        layer["relative_error"] for layer in quantized.record.values() if "relative_error" in layer
    ]
    assert np.isfinite(errors).all()
    if not isinstance(method, BRECQ | RoundToNearest | AdaRound):
        assert not quantized.layers["0"].dequantize()[2].any()
        assert quantized.record["0"]["dead"] == 9
        assert quantized.record["2"]["dead"] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_by_every_quantizer(method, value):
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4))
    with torch.no_grad():
        network[2].weight[3, 0, 2, 2] = value
    with pytest.raises(QuantizationError, match="layer '2': the weight holds NaN or infinite"):
        run(method, network, torch.randn(4, 4, 6, 6))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name", [name for name in METHODS if name != "rtn"]
)  # which uses no images
def test_one_broken_image_is_refused_by_every_quantizer_that_uses_it(name, value):
    images = torch.randn(9, 4, 12)
    images[7, 2, 3] = value
    with pytest.raises(
        QuantizationError, match="layer '0': the calibration input holds NaN or infinite"
    ):
        run(METHODS[name], nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), images)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "rtn"])
def test_an_overflow_on_the_way_of_one_image_is_refused_by_every_quantizer_that_uses_it(name):
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(4) * 1e20)
    images = torch.randn(9, 4)
    images[7] = 1e19
    with pytest.raises(QuantizationError, match=r"layer '[01]': the .* holds NaN or infinite"):
        run(METHODS[name], network, images)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    pixels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(data.target)


@pytest.fixture(scope="module")
def trained(digits):
    """A residual network that has learnt the digits, with batch-norm statistics of all calibration images."""
    images, labels = digits
    network = build(ModelSpec("cnn", {"width": 8}, 10, 1, 8, (0.0,), (1.0,)), seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    draws = torch.Generator().manual_seed(0)
    for _ in range(12):
        for records in torch.randperm(len(images), generator=draws).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[records]), labels[records]).backward()
            optimizer.step()
    network.eval()
    reestimate(network, images[:256])
    return network


def test_256_levels_keep_the_accuracy_within_a_tenth_of_a_point(trained, digits, method):
    images, labels = digits
    changed = deployed(trained, run(method, trained, images[:256], levels=256))
    noise = torch.randn(
        10, *images.shape, generator=torch.Generator().manual_seed(0)
    )  # so that 0.001 is 18 records
    noisy, labels = (images + 0.2 * noise).flatten(0, 1), labels.repeat(10)
    with torch.no_grad():
        before, after = (
            float((each(noisy).argmax(1) == labels).double().mean()) for each in (trained, changed)
        )
    assert before > 0.95
    assert abs(after - before) <= 0.001
