"""Attacks, quantizers and metrics from outside: they change nothing that others are given, and are named where they
fail.
"""

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.attacks import attack_view
from bitleak.attacks.outside_attack import OutsideAttack
from bitleak.core.errors import AttackError, QuantizationError, UnfitView
from bitleak.metrics.score_metric import further_measures
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.outside_quantizer import call_quantizer, why_not_called
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.quantizers.shared_pass import quantize_population, quantize_together

RECORDS = 30


@dataclass(frozen=True)
class Made:
    """An attack whose call is a function."""

    call: object
    name: str = "made"
    signal: str = "logit_scaled"
    uses_references: bool = True
    fewest_population: int = 0
    outside_only: bool = True

    def __call__(self, view):
        return self.call(view)


def outside(call):
    return OutsideAttack(Made(call))


@pytest.fixture
def view():
    rng = np.random.default_rng(0)
    member = np.arange(4)[:, None] % 2 == np.arange(RECORDS) % 2
    return attack_view(
        target=rng.normal(size=(RECORDS, 1, 6)),
        references=rng.normal(size=(4, RECORDS, 1, 6)),
        member=member,
        use=np.ones_like(member),
        population_target=rng.normal(size=(5, 1, 6)),
        population_references=rng.normal(size=(4, 5, 1, 6)),
        labels=np.zeros(RECORDS, np.int64),
    )


def confidence(view):
    return view.target[:, 0, 1]


def test_scores_are_those_of_the_attack_and_its_attributes_are_its_own(view):
    attack = outside(lambda view: confidence(view).tolist())
    np.testing.assert_array_equal(attack(view), confidence(view))
    assert (attack.name, attack.uses_references, attack.outside_only) == ("made", True, True)
    assert not hasattr(attack, "exchangeable")
    assert len({attack, OutsideAttack(attack.form)}) == 1


@pytest.mark.parametrize(
    "array",
    ["target", "references", "side", "population_target", "population_references", "labels"],
)
def test_an_attack_cannot_write_into_what_others_are_given(view, array):
    def changing(view):
        getattr(view, array)[:] = 0
        return confidence(view)

    before = getattr(view, array).copy()
    with pytest.raises(
        AttackError, match=r"attack 'made': ValueError: .*; it must not change what"
    ):
        outside(changing)(view)
    np.testing.assert_array_equal(getattr(view, array), before)
    assert view.target.flags.writeable


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda view: confidence(view)[1:], r"one number per audited record, 30, got float64 of shape \(29,\)"),
        (lambda view: view.target[:, 0], r"got float64 of shape \(30, 6\)"),
        (lambda view: ["a"] * RECORDS, "one number per audited record"),
        (lambda view: None, r"got object of shape \(\)"),
        (lambda view: np.where(np.arange(RECORDS) == 3, np.nan, 0.0), "finite scores, got nan at record 3"),
        (lambda view: 1 / 0, "attack 'made': ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_a_mistake_of_an_attack_is_named_with_the_attack(view, call, message):
    with pytest.raises(AttackError, match=message):
        outside(call)(view)


def test_the_explicit_check_of_a_signal_stays_what_it_is(view):
    def unfit(view):
        raise UnfitView("no such signal")

    with pytest.raises(UnfitView):
        outside(unfit)(view)


def test_draws_of_global_generators_follow_what_is_shown_and_leave_no_trace(view):
    def drawing(view):
        noise = np.random.random(RECORDS) + random.random()  # noqa: NPY002
        return noise + torch.rand(RECORDS).numpy()

    attack = outside(drawing)
    torch.manual_seed(1)
    states = [torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]  # noqa: NPY002
    first = attack(view)
    random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
    torch.manual_seed(1)
    np.testing.assert_array_equal(attack(view), first)
    assert torch.equal(torch.get_rng_state(), states[0])
    other = attack(view.of_target(view.target + 1, view.population_target))
    assert (other != first).any()


def clip_in_place(network):
    with torch.no_grad():
        for module in network.modules():
            if hasattr(module, "weight"):
                module.weight.clamp_(-0.05, 0.05)


@dataclass(frozen=True, kw_only=True)
class Clip(RoundToNearest):
    """A quantizer that changes the network and the images that it is given."""

    def __call__(self, network, calibration, generator, on_layer=None):
        clip_in_place(network)
        calibration.zero_()
        return super().__call__(network, calibration, generator)


@dataclass(frozen=True, kw_only=True)
class Clipped(GPTQ):
    """One whose inherited shared pass would go past its call; without the keyword `on_layer`."""

    def __call__(self, network, calibration, generator):
        clip_in_place(network)
        return super().__call__(network, calibration, generator)


@dataclass(frozen=True)
class Noisy:
    """One that draws from the global generators."""

    levels: int

    def __call__(self, network, calibration, generator):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.05 * np.random.random())  # noqa: NPY002
        return RoundToNearest(levels=self.levels)(network, calibration, generator)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def images():
    return torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(2))


def codes(quantized):
    return {name: layer.dequantize().tobytes() for name, layer in quantized.layers.items()}


@pytest.mark.parametrize("kind", [Clip, Clipped, Noisy])
def test_a_result_depends_on_no_other_precision_and_the_network_stays_as_it_is(kind, network):
    def together(*levels):
        generators = [torch.Generator().manual_seed(5) for _ in levels]
        quantizers = [kind(levels=count) for count in levels]
        return list(map(codes, quantize_together(quantizers, network, images(), generators)))

    before = [parameter.clone() for parameter in network.parameters()]
    (alone,) = together(4)
    torch.manual_seed(99)
    assert together(16, 4)[1] == alone
    twice = list(
        quantize_population(
            kind(levels=4),
            [network, network],
            [images(), images()],
            [torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)],
        )
    )
    assert list(map(codes, twice)) == [alone, alone]
    assert all(map(torch.equal, before, network.parameters()))
    own = RoundToNearest(levels=4) if kind is not Clipped else GPTQ(levels=4)
    assert codes(own(network, images(), torch.Generator())) != alone


def test_a_result_of_another_type_is_named(network):
    class Answering:
        def __call__(self, network, calibration, generator, **more):
            return {}

    with pytest.raises(
        QuantizationError, match=r"Answering must return bitleak\.QuantizedWeights, got dict"
    ):
        call_quantizer(Answering(), network, images(), torch.Generator())  # fmt: skip


def test_a_call_that_cannot_be_made_is_known_beforehand():
    class Few:
        def __call__(self, network, calibration):
            return None

    class More:
        def __call__(self, network, calibration, generator, temperature):
            return None

    for kind in (Few, More):
        assert "must take (network, calibration, generator)" in why_not_called(kind())
    assert "__call__(self, network, calibration, generator)" in why_not_called(object())
    for own in (Clip(levels=4), Clipped(levels=4), Noisy(4), RoundToNearest(levels=4)):
        assert why_not_called(own) == ""


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        (lambda scores, member: "high", "could not convert string to float"),
        (lambda scores, member: scores, "0-dimensional"),
        (lambda scores, member: 1 / 0, "ZeroDivisionError"),
        (lambda scores, member: scores.sort(), "it must not change what it is given"),
    ],
)
def test_a_mistake_of_a_metric_is_named_with_the_metric(figure, message, monkeypatch):
    @dataclass(frozen=True)
    class Wrong:
        name = "wrong"

        def __call__(self, scores, member):
            return figure(scores, member)

    monkeypatch.setattr("bitleak.metrics.score_metric.load_metric", lambda entry: Wrong())
    scores, member = np.array([[2.0, 1.0, 3.0]]), np.array([[True, False, True]])
    scores.flags.writeable = False
    with pytest.raises(AttackError, match=f"metric 'wrong' must give a number .*{message}"):
        further_measures(["zoo:Wrong"], scores, member, mode="population")
