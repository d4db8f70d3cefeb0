"""AUC by number of references, extrapolated."""

import numpy as np
import pytest

from bitleak.metrics import fit_reference_curve


def test_a_curve_of_the_form_is_recovered_and_one_reference_is_left_out():
    counts = [1, 2, 4, 8, 15]
    limits, losses = np.array([0.81, 0.84, 0.80]), np.array([0.05, 0.07, 0.06])
    areas = limits[:, None] - losses[:, None] / np.array(counts)
    areas[:, 0] = 0.5  # with one reference the attack is another one
    curve = fit_reference_curve(counts, areas)
    np.testing.assert_allclose(curve.limits, limits)
    np.testing.assert_allclose(curve.losses, losses)
    assert curve.at(4).value == pytest.approx((limits - losses / 4).mean())
    # Student's t with 2 degrees of freedom: 4.3027
    reach = 4.3027 * limits.std(ddof=1) / np.sqrt(3)
    assert curve.limit.high - curve.limit.value == pytest.approx(reach, rel=1e-4)


def test_the_interval_of_the_limit_covers_the_mean_over_trainings():
    rng, counts, covered = np.random.default_rng(0), np.array([2, 4, 8]), 0
    for _ in range(1000):
        limits = 0.8 + 0.01 * rng.normal(size=5)
        areas = limits[:, None] - 0.06 / counts + 0.002 * rng.normal(size=(5, 3))
        limit = fit_reference_curve(counts.tolist(), areas).limit
        covered += limit.low < 0.8 < limit.high
    # 95 % and 3 standard errors of 1,000 audits
    assert 930 <= covered <= 970


@pytest.mark.parametrize(
    ("counts", "targets", "message"),
    [
        ([1, 2, 4], 3, "at least 3 numbers of references above 1 per side, got 1, 2, 4"),
        ([2, 4, 8], 1, "at least 2 targets, got 1"),
    ],
)
def test_too_few_points_or_targets_are_refused(counts, targets, message):
    with pytest.raises(ValueError, match=message):
        fit_reference_curve(counts, np.full((targets, len(counts)), 0.7))
