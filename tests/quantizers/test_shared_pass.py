from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers import obc
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.layers import layer_method as method
from bitleak.quantizers.network import layer_inputs as capture
from bitleak.quantizers.network import layerwise
from bitleak.quantizers.network.norm_statistics import reestimate
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.quantizers.shared_pass import quantize_population, quantize_together

MIXED = [
    OBC(levels=16),
    AdaRound(levels=3, iterations=20),
    OBC(levels=3, last=256, layers={"3": 5}, polish=3),
    GPTQ(levels=3, order="index", reestimate="none"),
    OBC(levels=3, inputs="quantized"),
    OBC(levels=5, reestimate_images=None),
    OBC(levels=6, reestimate_images=1),
    RoundToNearest(levels=4, polish=5, granularity="tensor"),
    RoundToNearest(levels=4),
]


def network(seed=0):
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2, groups=3),
    ]
    built = nn.Sequential(*layers, nn.Flatten(), nn.Linear(54, 4)).eval()
    reestimate(built, images(seed))
    return built


def images(seed=0, records=80):
    noise = torch.randn(records, 2, 10, 10, generator=torch.Generator().manual_seed(seed))
    return 3 * torch.nn.functional.avg_pool2d(
        noise, 3, stride=1
    )  # neighbouring pixels are correlated


def chances(number):
    return [torch.Generator().manual_seed(0) for _ in range(number)]


def assert_same(one, other):
    assert one.record == other.record
    assert list(one.layers) == list(other.layers)
    for name, layer in one.layers.items():
        for field in ("codes", "scale", "zero_point"):
            assert np.array_equal(getattr(layer, field), getattr(other.layers[name], field)), (
                name,
                field,
            )
        assert layer.levels == other.layers[name].levels
    assert one.rest.keys() == other.rest.keys()
    assert all(np.array_equal(value, other.rest[name]) for name, value in one.rest.items())


def test_what_is_quantized_together_equals_what_is_quantized_alone_bit_for_bit(monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 640)  # ten records at a time
    together = list(quantize_together(MIXED, network(), images(), chances(len(MIXED))))
    for quantizer, found in zip(MIXED, together, strict=True):
        assert_same(found, quantizer(network(), images(), chances(1)[0]))
    assert len({found.layers["0"].codes.tobytes() for found in together}) == len(MIXED)


def test_all_that_can_share_take_one_pass_and_one_gram_matrix_per_layer(monkeypatch):
    counts, gram = Counter(), layerwise.gram
    monkeypatch.setattr(
        layerwise, "gram", lambda layer, inputs: counts.update([layer]) or gram(layer, inputs)
    )
    quantizers = [OBC(levels=16), GPTQ(levels=3), RoundToNearest(levels=3, polish=1), OBC(levels=4)]
    assert len(list(quantize_together(quantizers, network(), images(), chances(4)))) == 4
    assert sorted(counts.values()) == [1, 1, 1]


def test_precisions_of_obc_are_eliminated_in_one_call_per_layer_and_other_options_apart(
    monkeypatch,
):
    counts, eliminate = Counter(), obc.eliminate
    monkeypatch.setattr(
        obc,
        "eliminate",
        lambda *rows, **more: counts.update([rows[0].shape]) or eliminate(*rows, **more),
    )
    quantizers = [
        OBC(levels=16),
        OBC(levels=4, dtype="float32"),
        OBC(levels=4, polish=2, layers={"5": "fp32"}),
        OBC(levels=3, grid="output"),
    ]
    found = list(quantize_together(quantizers, network(), images(), chances(4)))
    # groups, rows, columns: four of float64's grids together, or three; those of float32 alone
    assert counts == {
        (1, 24, 18): 1,
        (1, 6, 18): 1,
        (3, 8, 18): 1,
        (3, 2, 18): 1,
        (1, 12, 54): 1,
        (1, 4, 54): 1,
    }
    for quantizer, together in zip(quantizers, found, strict=True):
        assert_same(together, quantizer(network(), images(), chances(1)[0]))


def test_several_models_by_several_precisions_get_the_codes_of_each_alone(monkeypatch):
    monkeypatch.setattr(method, "STACKED", 500)  # two or three models at a time, or one
    networks, shown = population()
    shown[1] = shown[1][:1].repeat(3, 1, 1, 1)  # damped in its last layer
    quantizers = [OBC(levels=4), OBC(levels=3, polish=2)]
    methods = [quantizer.method() for quantizer in quantizers]
    found = list(layerwise.quantize_alike(methods, networks, shown))
    for index, (own, calibration) in enumerate(zip(networks, shown, strict=True)):
        for number, quantizer in enumerate(quantizers):
            alone = quantizer(own, calibration, chances(1)[0])
            together = found[len(quantizers) * index + number]
            for name, layer in alone.layers.items():
                assert np.array_equal(together.layers[name].codes, layer.codes)
                assert together.record[name]["damping"] == alone.record[name]["damping"]
    assert [one.record["5"]["damping"] > 0 for one in found] == [False] * 2 + [True] * 2 + [
        False
    ] * 6


def test_a_result_is_made_when_it_is_asked_for():
    made = []
    quantizers = [AdaRound(levels=3, iterations=1), OBC(levels=3), AdaRound(levels=4, iterations=2)]
    results = quantize_together(
        quantizers,
        network(),
        images(),
        chances(3),
        on_layer=lambda name, index, of: made.append((index, of)),
    )
    assert made == []
    next(results)
    assert made == [(0, 9), (1, 9), (2, 9)]
    list(results)
    assert made == [(index, 9) for index in range(9)]


class Residual(nn.Module):
    """Odd sizes, groups, and a projection: units of one layer, of a block, and of a classifier."""

    def __init__(self, activation=None):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.first = nn.Conv2d(5, 16, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.shortcut = nn.Conv2d(5, 16, 1, stride=2)
        self.activation = activation or nn.ReLU()
        self.classifier = nn.Linear(16, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        hidden = self.activation(self.first(x))
        x = torch.relu(self.second(hidden) + self.shortcut(x))
        return self.classifier(x.mean((2, 3)))


def residual(activation=None):
    torch.manual_seed(3)
    built = Residual(activation).eval()
    reestimate(built, images())
    return built


SHORT = {"iterations": 12, "batch": 7}
ALIKE = [
    AdaRound(**SHORT),
    AdaRound(**SHORT, grid="zero", polish=3, last=9),
    AdaRound(**SHORT, scaling="none", layers={"first": "fp32", "second": 5}),
    AdaRound(**SHORT, objective="activation"),
    BRECQ(**SHORT),
    BRECQ(**SHORT, weighting="fisher", granularity="tensor"),
    BRECQ(**SHORT, start="polish", grid="output", layers={"shortcut": "fp32"}),
    BRECQ(**SHORT, start="adaround", activations=8),
]


# GELU has no program, so these units are differentiated by autograd, one copy after the other.
@pytest.mark.parametrize(
    ("quantizer", "activation"),
    [*((quantizer, None) for quantizer in ALIKE), *((some, nn.GELU()) for some in ALIKE[3:5])],
)
def test_several_levels_in_one_pass_equal_one_level_after_the_other_bit_for_bit(
    quantizer, activation
):
    quantizers = [replace(quantizer, levels=levels) for levels in (16, 3)]
    network = residual(activation)
    together = list(quantize_together(quantizers, network, images(), chances(2)))
    for alone, found in zip(quantizers, together, strict=True):
        assert_same(found, alone(network, images(), chances(1)[0]))
    assert len({found.layers["stem"].codes.tobytes() for found in together}) == 2


@pytest.mark.parametrize("kind", [AdaRound, BRECQ])
def test_quantizers_that_differ_in_their_levels_share_a_pass(kind, monkeypatch):
    calls = []
    at_levels = kind.at_levels
    monkeypatch.setattr(
        kind,
        "at_levels",
        lambda self, levels, *some, **options: (
            calls.append(list(levels)) or at_levels(self, levels, *some, **options)
        ),
    )
    quantizers = [kind(**SHORT, levels=levels) for levels in (16, 4)]
    quantizers.insert(1, kind(**SHORT, levels=3, last=8))
    made = []
    results = quantize_together(
        quantizers, residual(), images(), chances(3), on_layer=lambda *some: made.append(some[1:])
    )
    levels = [next(results).layers["stem"].levels]
    assert made == [(index, 15) for index in range(10)]
    levels += [found.layers["stem"].levels for found in results]
    assert levels == [16, 3, 4]
    assert calls == [[16, 4], [3]]
    assert made == [(index, 15) for index in range(15)]


@pytest.mark.parametrize("quantizer", [AdaRound(**SHORT), BRECQ(**SHORT)])
def test_the_memory_does_not_change_results_at_several_levels(quantizer):
    options = {"network": residual(), "calibration": images()}
    found = [
        quantizer.at_levels([3, 16], **options, generators=chances(2), memory=memory)
        for memory in (None, 0, 40_000)
    ]
    for other in found[1:]:
        assert_same(found[0][0], other[0])
        assert_same(found[0][1], other[1])


def test_the_network_is_not_changed():
    given = network().train()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    list(quantize_together(MIXED, given, images(), chances(len(MIXED))))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert all(module.training for module in given.modules())


@pytest.mark.parametrize("memory", [0, 20_000])
def test_the_memory_changes_the_passes_and_not_the_result(memory, monkeypatch):
    passes = []
    stream = layerwise.stream
    monkeypatch.setattr(
        layerwise, "stream", lambda *some: passes.append(sorted(some[2])) or stream(*some)
    )
    for found, expected in zip(
        quantize_together([OBC(levels=3)], network(), images(), chances(1), memory=memory),
        quantize_together([OBC(levels=3)], network(), images(), chances(1)),
        strict=True,
    ):
        assert_same(found, expected)
    by_layer = {
        0: [["0", "1"], ["3"], ["5"]],
        20_000: [["0", "1", "3"], ["5"]],
    }  # 2.6, 7.8 and 23.3 kB; 1: batch norm
    assert passes == [*by_layer[memory], ["0", "1", "3", "5"]]


POPULATION = [
    OBC(levels=3),
    OBC(levels=4, polish=4, granularity="tensor", reestimate="none"),
    OBC(levels=3, polish=4, grid="output", granularity="tensor", reestimate="none"),
    OBC(levels=4, grid="output"),
    GPTQ(levels=3, polish=2),
    RoundToNearest(levels=3, polish=9),
    RoundToNearest(levels=3),
    AdaRound(levels=3, iterations=5),
]


def population():
    """Five networks and the calibration images of each."""
    shown = [images(seed, records=60 + 10 * seed) for seed in range(5)]
    shown[3][:, 1] = 0  # inputs that never occur, in one of the networks
    return [network(seed) for seed in range(5)], shown


@pytest.fixture(scope="module", params=POPULATION, ids=lambda quantizer: type(quantizer).__name__)
def quantized_alone(request):
    """A quantizer, and its result for each network of the population on its own."""
    results = [request.param(*pair, *chances(1)) for pair in zip(*population(), strict=True)]
    return request.param, results


@pytest.mark.parametrize("stacked", [0, 1000, 1 << 20])
def test_a_population_gets_the_codes_that_each_network_gets_alone(
    quantized_alone, stacked, monkeypatch
):
    quantizer, expected = quantized_alone
    monkeypatch.setattr(method, "STACKED", stacked)
    found = list(quantize_population(quantizer, *population(), chances(5)))
    for each, alone in zip(found, expected, strict=True):
        for name, layer in alone.layers.items():
            assert np.array_equal(each.layers[name].codes, layer.codes)
            assert np.array_equal(each.layers[name].scale, layer.scale)
            approximate = {
                key: pytest.approx(value, rel=1e-6) for key, value in alone.record[name].items()
            }
            assert each.record[name] == approximate
        assert all(np.array_equal(value, each.rest[name]) for name, value in alone.rest.items())
    assert len({each.layers["5"].codes.tobytes() for each in found}) == 5


def test_a_model_that_needs_damping_does_not_change_the_others():
    networks = [network(seed) for seed in range(3)]
    shown = [
        images(0),
        images(1)[:1].repeat(3, 1, 1, 1),
        images(2),
    ]  # one image: more columns than inputs
    found = list(quantize_population(OBC(levels=3), networks, shown, chances(3)))
    assert [each.record["5"]["damping"] > 0 for each in found] == [False, True, False]
    for each, own, given in zip(found, networks, shown, strict=True):
        assert_same(each, OBC(levels=3)(own, given, chances(1)[0]))


def test_the_network_that_fails_is_named():
    shown = [images(seed) for seed in range(3)]
    shown[1][7] = float("nan")
    with pytest.raises(QuantizationError, match="network 1: layer '0': the calibration input"):
        list(
            quantize_population(
                OBC(levels=3), [network(seed) for seed in range(3)], shown, chances(3)
            )
        )


def test_networks_of_two_architectures_are_refused():
    other = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(180, 4))
    with pytest.raises(
        QuantizationError, match=r"network 1 has other layers than network 0.*'0'.*6, 2.*5, 2"
    ):
        list(quantize_population(GPTQ(), [network(), other], [images()] * 2, chances(2)))


def test_numbers_that_do_not_fit_are_refused_at_once():
    with pytest.raises(ValueError, match="one per quantizer: 2 expected, got 1"):
        quantize_together([OBC(), GPTQ()], network(), images(), chances(1))
    with pytest.raises(ValueError, match="calibrations must be one per network: 2 expected, got 1"):
        quantize_population(OBC(), [network()] * 2, [images()], chances(2))
