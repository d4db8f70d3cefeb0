"""Lists that count from 1 or are exchanged, and releases of another training, at the toy target."""

import copy

import numpy as np
import pytest
import torch
from toy_target import DEVIATION, MEAN, toy

import bitleak
from bitleak.audit.target.list_doubts import check_list
from bitleak.audit.target.release_doubts import weight_cosine
from bitleak.core.errors import ConfigError
from bitleak.quantizers.rtn import RoundToNearest


@pytest.fixture(scope="module")
def target():
    return toy()


def audited(target, **fields):
    call = {"members": target.members, "mean": MEAN, "deviation": DEVIATION, "fpr": 0.05, **fields}
    return bitleak.audit_model(target.network, target.images, target.labels, **call)


def warnings_of(audit):
    return " ".join(audit.facts.warnings)


@pytest.mark.parametrize("tier", [0, 1])
def test_numbers_that_count_from_1_are_refused_before_a_training(target, tier):
    def make():
        raise AssertionError("a reference was made")

    factory = {"factory": make} if tier else {}
    with pytest.raises(ConfigError, match=r"members: do the numbers count from 1\?.*subtract 1"):
        audited(target, members=target.members + 1, tier=tier, **factory)


@pytest.mark.parametrize("tier", [0, 1])
def test_a_list_in_reversed_order_is_refused_before_a_training(tier):
    target = toy(members=120)

    def make():
        raise AssertionError("a reference was made")

    factory = {"factory": make} if tier else {}
    member = np.isin(np.arange(800), target.members)[::-1]
    with pytest.raises(ConfigError, match=r"members: is the list in reversed order\?.*\[::-1\]"):
        audited(target, members=member, tier=tier, **factory)


def test_right_lists_are_not_taken_for_reversed_ones():
    """In 400 draws of lists, of targets that leak nothing, and of ones that leak, none is refused."""
    rng = np.random.default_rng(2)
    numbers = np.arange(1000)
    for draw in range(400):
        listed = rng.permutation(1000) < 400
        confidence = rng.normal(size=1000) + (draw % 2) * listed
        assert check_list(confidence, numbers, np.flatnonzero(listed), 1000) == ()
    # A list that is its own mirror image fits as well in both orders.
    mirrored = np.minimum(numbers, 999 - numbers) < 200
    confidence = rng.normal(size=1000) + 1.0 * mirrored
    assert check_list(confidence, numbers, np.flatnonzero(mirrored), 1000) == ()


def test_members_that_are_surer_are_not_doubted(target):
    audit = audited(target)
    assert not audit.facts.warnings
    assert audit.figure("auc", attack="threshold").value > 0.65


def test_exchanged_lists_are_told_by_confidence_where_accuracy_cannot(target):
    others = np.setdiff1d(np.arange(800), target.members)
    assert "are members and others exchanged?" in warnings_of(audited(target, members=others))


def test_runs_of_members_do_not_look_as_if_they_counted_from_1():
    # Records in a run of 50 have listed neighbours, which fit as well.
    numbers = np.arange(2000)
    listed = numbers // 50 % 2 == 0
    confidence = np.random.default_rng(0).normal(size=2000) + 1.0 * listed
    assert check_list(confidence, numbers, np.flatnonzero(listed), 2000) == ()
    nothing = np.random.default_rng(1).normal(size=2000)
    assert check_list(nothing, numbers, np.flatnonzero(listed), 2000) == ()


def test_weights_of_another_training_are_doubted_and_coarse_ones_are_not(target):
    other = toy(seed=9).network
    coarse = RoundToNearest(levels=3)(target.network, torch.zeros(1, 3, 8, 8), torch.Generator())
    releases = {
        "other": other.state_dict(),
        "coarse": coarse,
        "self": copy.deepcopy(target.network),
    }
    text = warnings_of(audited(target, releases=releases))
    assert "other: its weights hardly correlate with the target's (cosine 0.0" in text
    assert "coarse" not in text
    assert "self" not in text
    assert weight_cosine(target.network, target.network) == pytest.approx(1)
    assert weight_cosine(torch.nn.ReLU(), target.network) is None


def test_a_release_whose_classes_are_in_another_order_is_doubted(target):
    class Rolled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(target.network)

        def forward(self, x):
            return self.inner(x).roll(1, dims=1)

    text = warnings_of(audited(target, releases={"rolled": Rolled()}))
    assert "rolled: right on 0.0 % of 150 members, no better than guessing" in text
    assert "where the target is right on 100.0 %" in text
