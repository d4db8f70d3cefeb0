"""What every entry of the registry's METRICS promises."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.core.types import Measure
from bitleak.metrics import ScoreMetric, further_measures, load_metric
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
    assert metric(*world(3, 1.5, records=200_000)) == pytest.approx(2 * norm.cdf(0.75) - 1, abs=0.01)
    chance = [metric(*world(seed, 0.0, records=1000)) for seed in range(200)]
    assert np.mean(chance) == pytest.approx(math.sqrt(math.pi / 8 * (2 / 500)), rel=0.1)


def test_totals_are_means_with_an_interval_for_dedicated_targets_only():
    targets = [world(seed, 1.0) for seed in range(3)]
    scores, member = (np.stack(part) for part in zip(*targets, strict=True))
    values = [load_metric("advantage")(*target) for target in targets]
    shared, own = (further_measures(["advantage"], scores, member, mode=mode)["advantage"][0]
                   for mode in ("population", "dedicated"))  # fmt: skip
    assert shared == Measure(np.mean(values), std=np.std(values, ddof=1))
    assert (own.value, own.std, own.interval) == (shared.value, shared.std, "t")
    assert own.high - own.value == pytest.approx(4.302653 * own.std / math.sqrt(3), rel=1e-6)


def test_a_metric_that_is_not_finite_is_named(monkeypatch):
    monkeypatch.setattr("bitleak.metrics.advantage.Advantage.__call__", lambda *_: float("nan"))
    with pytest.raises(ValueError, match="metric 'advantage' must give finite numbers, got nan"):
        further_measures(["advantage"], np.zeros((1, 4)), np.array([[True, True, False, False]]), mode="population")
