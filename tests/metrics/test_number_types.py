"""Scores and memberships of any type of number give the figures of floats and truth values, or are refused."""

import numpy as np
import pytest

from bitleak.metrics import (
    at_threshold,
    auc,
    epsilon_bounds,
    epsilon_measures,
    exposure,
    measure,
    memorisation,
    one_run_bounds,
    roc,
    threshold_for,
)

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

RNG = np.random.default_rng(0)
MEMBER = RNG.random(2000) < 0.5
COUNTS = RNG.poisson(1 + 2 * MEMBER)
MATRIX = np.stack([COUNTS, COUNTS[::-1]])
MEMBERS = np.stack([MEMBER, MEMBER[::-1]])


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int16, np.float32, list])
def test_scores_of_any_type_of_number_give_one_area(kind):
    scores = COUNTS.tolist() if kind is list else COUNTS.astype(kind)
    expected = auc(roc(COUNTS.astype(float), MEMBER))
    assert expected > 0.7
    assert auc(roc(scores, MEMBER)) == expected
    found = measure([scores] if kind is list else scores[None], MEMBER[None], fprs=(0.1,))
    assert found.aggregate["auc"].value == expected
    assert threshold_for(scores, 0.1) == threshold_for(COUNTS.astype(float), 0.1)


def test_truth_values_are_scores_of_0_and_1():
    assert auc(roc(MEMBER, MEMBER)) == 1.0


def of_one(call):
    return lambda member: call(COUNTS.astype(float), member)


def of_two(call):
    return lambda member: call(MATRIX.astype(float), np.stack([member, member[::-1]]))


CALLS = {
    "roc": of_one(lambda scores, member: auc(roc(scores, member))),
    "measure": of_two(lambda scores, member: measure(scores, member, fprs=(0.1,))),
    "at_threshold": of_one(lambda scores, member: at_threshold(scores, member, 2.0)),
    "epsilon_bounds": of_one(lambda scores, member: epsilon_bounds(scores[None], member, seed=0)),
    "epsilon_measures": of_two(
        lambda scores, member: epsilon_measures(scores, member, seed=0, delta=0, comparisons=1)
    ),
    "one_run_bounds": of_one(
        lambda scores, member: one_run_bounds(
            scores[None], member, guesses=[(100, 100)], independent=True
        )
    ),
    "exposure": of_two(lambda scores, member: exposure(scores, member).mean.tobytes()),
    "memorisation": of_two(lambda scores, member: memorisation(scores, member).mean.tobytes()),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_membership_of_1_and_0_is_one_of_truth_values_and_no_other_number_is(name):
    call = CALLS[name]
    expected = call(MEMBER)
    for kind in (np.uint8, np.int64, np.float64):
        assert call(MEMBER.astype(kind)) == expected
    with pytest.raises(ValueError, match="got -1; write member == 1 if 1 stands for a member"):
        call(np.where(MEMBER, 1, -1))
    with pytest.raises(ValueError, match=r"got <U3 such as '(yes|no)'; write member == '...'"):
        call(np.where(MEMBER, "yes", "no"))


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="scores must be real numbers, got <U"):
        roc(COUNTS.astype(str), MEMBER)
    with pytest.raises(ValueError, match="scores must be real numbers, got complex128"):
        roc(COUNTS.astype(complex), MEMBER)


def test_a_target_with_one_member_has_no_bound_on_epsilon():
    scores, member = COUNTS.astype(float), np.arange(2000) == 3
    both = np.stack([MEMBER, member])
    found = epsilon_measures(np.stack([scores, scores]), both, seed=0, delta=0, comparisons=1)
    total, first, second = (measure.value for measure in found["epsilon"])
    assert second == 0
    assert total > 0
    assert first >= total
