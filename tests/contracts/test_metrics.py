"""What every entry of the registry's METRICS promises."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import norm, t

from bitleak.core.types import Measure
from bitleak.metrics import ScoreMetric, further_measures, load_metric
from bitleak.metrics.advantage import Advantage
from bitleak.registry import METRICS


def world(seed, shift, records=4000):
    rng = np.random.default_rng(seed)
    member = rng.permutation(records) < records // 2
    return rng.normal(size=records) + shift * member, member


def value_of(figure):
    return figure.value if isinstance(figure, Measure) else figure


@pytest.fixture(params=METRICS)
def metric(request):
    return load_metric(request.param)


def test_it_is_a_metric_with_a_name_of_its_own(metric):
    assert isinstance(metric, ScoreMetric)
    assert len({load_metric(name).name for name in METRICS}) == len(METRICS)


def test_it_depends_on_neither_the_order_of_records_nor_anything_else(metric):
    scores, member = world(0, 1.0)
    order = np.random.default_rng(1).permutation(len(scores))
    before = scores.copy(), member.copy()
    first = value_of(metric(scores, member))
    assert value_of(metric(scores[order], member[order])) == pytest.approx(first, rel=1e-12)
    assert value_of(metric(scores, member)) == first
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(member, before[1])


def test_it_is_finite_with_ties_and_tells_leakage_from_chance(metric):
    flat = value_of(metric(np.zeros(10), np.arange(10) < 5))
    assert math.isfinite(flat)
    values = [value_of(metric(*world(2, shift))) for shift in (0.0, 2.0)]
    assert abs(values[1] - values[0]) > 0.1


def test_the_advantage_is_its_closed_form_and_its_bias_at_chance_that_of_kolmogorov_and_smirnov():
    metric = load_metric("advantage")
    assert metric(*world(3, 1.5, records=200_000)) == pytest.approx(
        2 * norm.cdf(0.75) - 1, abs=0.01
    )
    chance = [metric(*world(seed, 0.0, records=1000)) for seed in range(200)]
    assert np.mean(chance) == pytest.approx(math.sqrt(math.pi / 8 * (2 / 500)), rel=0.1)


@dataclass(frozen=True)
class WithInterval:
    """The advantage, plus or minus a reach."""

    reach: float
    name = "advantage_with_interval"

    def __call__(self, scores, member):
        value = Advantage()(scores, member)
        return Measure(value, value - self.reach, value + self.reach, interval="made_up")


def total_of(entry, targets, mode):
    pairs = [world(seed, 1.0) for seed in range(targets)]
    scores, member = (np.stack(part) for part in zip(*pairs, strict=True))
    (measures,) = further_measures([entry], scores, member, mode=mode).values()
    return measures[0], [measure.value for measure in measures[1:]]


def test_totals_are_means_without_an_interval_where_targets_have_none():
    """The spread over targets alone does not know what they have in common on the same records."""
    for mode in ("population", "dedicated"):
        total, values = total_of("advantage", 6, mode)
        assert total == Measure(np.mean(values), std=np.std(values, ddof=1))


@pytest.mark.parametrize("reach", [0.001, 0.2])
def test_a_total_of_five_dedicated_targets_is_no_surer_than_one_target_and_than_their_spread(
    reach, monkeypatch
):
    monkeypatch.setattr(
        "bitleak.metrics.score_metric.resolve", lambda *_, **__: WithInterval(reach)
    )
    total, values = total_of("elsewhere:Metric", 5, "dedicated")
    assert (total.value, total.interval, total.about) == (np.mean(values), "t", "trainings")
    spread = t.ppf(0.975, 4) * np.std(values, ddof=1) / math.sqrt(5)
    assert total.high - total.value >= max(reach, spread) - 1e-12
    assert total.high - total.value == pytest.approx(max(reach, spread), rel=0.05)
    few, _ = total_of("elsewhere:Metric", 4, "dedicated")
    assert (few.low, few.about) == (None, "")


def test_a_metric_that_is_not_finite_is_named(monkeypatch):
    monkeypatch.setattr("bitleak.metrics.advantage.Advantage.__call__", lambda *_: float("nan"))
    with pytest.raises(ValueError, match="metric 'advantage' must give finite numbers, got nan"):
        further_measures(
            ["advantage"],
            np.zeros((1, 4)),
            np.array([[True, True, False, False]]),
            mode="population",
        )
