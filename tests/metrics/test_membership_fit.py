"""How well lists of members fit answers: an oracle of pairs, and the deviations of meaningless lists."""

import numpy as np
import pytest

from bitleak.metrics.membership_fit import membership_fit


def auc_of_pairs(scores, listed):
    """Share of pairs of a listed and another record that are in order; half of a tie."""
    differences = scores[listed][:, None] - scores[~listed][None]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def test_areas_are_those_of_all_pairs_with_ties():
    rng = np.random.default_rng(0)
    confidence = rng.integers(0, 5, (3, 40)).astype(float)
    listed = rng.random((2, 40)) < 0.4
    fit = membership_fit(confidence, listed)
    for model in range(3):
        for row in range(2):
            expected = auc_of_pairs(confidence[model], listed[row])
            assert fit.auc[model, row] == pytest.approx(expected, abs=1e-12)


def test_deviations_of_meaningless_lists_have_variance_1():
    rng = np.random.default_rng(1)
    listed = rng.random((2000, 60)) < 0.3
    deviations = membership_fit(rng.normal(size=(1, 60)), listed).deviations[0]
    assert abs(deviations.mean()) < 0.1
    assert deviations.std() == pytest.approx(1, abs=0.06)


def test_a_list_of_all_records_fits_nothing():
    fit = membership_fit(np.arange(4.0)[None], np.array([[True] * 4, [False] * 4]))
    assert (fit.auc == 0.5).all()
    assert (fit.deviations == 0).all()
