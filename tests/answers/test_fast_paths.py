"""Each fast path of `attack` against the slow, obvious form of it: the same numbers, bit by bit."""

import numpy as np
import pytest

from bitleak.attacks import (
    RECALIBRATED_SIGNALS,
    Player,
    attack_view,
    exchangeable,
    expand,
    negative_control,
    signal_of,
    signals_of_references,
    two_class_signals,
)
from bitleak.attacks.reference_subsets import Subsets, _taken
from bitleak.core.spill import LARGE, new_array
from bitleak.core.types import SIGNALS
from bitleak.data.splits import _smallest, even_mask
from bitleak.metrics import estimate_balanced_accuracy, measure, random_halvings
from bitleak.metrics.roc import roc

FORMS = tuple(attack for word in ("lira", "calibrated", "reference") for attack in expand(word))


def uneven(seed=0, *, models=18, records=300, queries=2):
    """A target by references of which some are hidden for some records, and the references' own membership."""
    generator = np.random.default_rng(seed)
    member = generator.random((models, records)) < 0.5
    member[:8] = np.tile([True, False], 4)[:, None]  # so that every record has four a side
    confidence = generator.normal(size=(models + 1, records, queries))
    confidence[1:] += member[:, :, None]
    return attack_view(
        target=two_class_signals(confidence[0]),
        references=two_class_signals(confidence[1:]),
        member=member,
        use=even_mask(member, seed),
        population_target=two_class_signals(generator.normal(size=(60, queries))),
        population_references=two_class_signals(generator.normal(size=(models, 60, queries))),
        labels=np.zeros(records, np.int64),
    )


def ranked(member, seed):
    """`even_mask` by the rank of every key on its side."""
    used = int(np.minimum(member.sum(axis=0), (~member).sum(axis=0)).min())
    keys = np.random.default_rng(seed).random(member.shape)
    ranks = [
        np.where(side, keys, 2.0).argsort(axis=0).argsort(axis=0) for side in (member, ~member)
    ]
    return (member & (ranks[0] < used)) | (~member & (ranks[1] < used))


@pytest.mark.parametrize("models", [5, 40, 256])
def test_the_even_mask_keeps_the_references_of_the_smallest_keys(models):
    member = np.random.default_rng(models).random((models, 2000)) < 0.5
    member[:4] = np.array([1, 1, 0, 0])[:, None]
    np.testing.assert_array_equal(even_mask(member, 3), ranked(member, 3))


def test_of_two_equal_keys_the_first_row_counts():
    chosen = _smallest(np.array([[True, True, True, False]]), np.array([[0.5, 0.1, 0.5, 0.0]]), 2)
    assert chosen.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("attack", FORMS, ids=lambda attack: attack.name)
def test_a_compact_player_gives_the_scores_of_the_player_that_is_masked(attack):
    view = uneven()
    compact, masked = (Player(view, np.random.default_rng(5)) for _ in range(2))
    assert exchangeable(attack)
    assert not masked.view().use.all()
    np.testing.assert_array_equal(compact.member, masked.member)
    np.testing.assert_array_equal(attack(compact.compact_view()), attack(masked.view()))


@pytest.mark.parametrize("count", [1, 3])
def test_gathered_references_are_those_of_the_mask_in_the_order_of_the_models(count):
    view = uneven(1)
    subsets = Subsets(view, np.random.default_rng(0))
    compact, masked = subsets.compact_view(count), subsets.view(count)
    for record in range(view.side.shape[1]):
        rows = np.concatenate(
            [np.flatnonzero(side[:, record]) for side in (masked.member, masked.outside)]
        )
        np.testing.assert_array_equal(compact.references[:, record], view.references[rows, record])


def test_references_in_a_file_are_gathered_as_those_in_memory():
    generator = np.random.default_rng(0)
    shape = (6, LARGE // (6 * 8 * 2) + 10, 1, 2)
    filed = new_array(shape, np.dtype(np.float64))  # a block of records lies together there
    filed[...] = generator.random(shape)
    planes = np.ascontiguousarray(
        np.moveaxis(filed, -1, 0)
    )  # signal by signal, as `attack` has them
    rows, columns = (
        generator.integers(6, size=(3, 500)),
        np.sort(generator.choice(shape[1], 500, replace=False)),
    )
    expected = np.moveaxis(np.asarray(filed)[rows, columns], -1, 0)
    np.testing.assert_array_equal(_taken(filed, rows, columns), expected)
    np.testing.assert_array_equal(_taken(np.moveaxis(planes, 0, -1), rows, columns), expected)


def test_the_first_signals_are_those_of_all():
    confidence = np.random.default_rng(0).normal(size=(7, 2), scale=30)
    whole = two_class_signals(confidence)
    for count in range(1, 7):
        np.testing.assert_array_equal(two_class_signals(confidence, count), whole[..., :count])


def test_references_have_the_signals_that_are_read_of_them_and_others_are_refused():
    assert SIGNALS[:2] == RECALIBRATED_SIGNALS
    assert signals_of_references(FORMS) == signals_of_references(expand("rmia")) == 2
    assert signals_of_references(expand("signals")) == 2  # of the target alone
    assert signals_of_references(expand("quantile")) == 6
    with pytest.raises(
        ValueError, match="'entropy' is not there; these answers have log_probability, logit_scaled"
    ):
        signal_of(np.zeros((3, 1, 2)), "entropy")


def test_the_control_takes_what_was_computed_of_the_same_references():
    view = uneven(2)
    for attack in FORMS:
        attack(view)
    computed = dict(view.shared)
    control = negative_control(view, np.random.default_rng(0))
    fresh = negative_control(uneven(2), np.random.default_rng(0))
    for attack in FORMS:
        np.testing.assert_array_equal(attack(control), attack(fresh))
    assert all(control.shared[key] is value for key, value in computed.items())


@pytest.mark.parametrize("ties", [False, True])
def test_halvings_call_the_records_that_one_threshold_after_the_other_calls(ties):
    generator = np.random.default_rng(8)
    member = generator.random(500) < 0.4
    scores = generator.normal(size=500) + member
    scores = scores.round() if ties else scores
    halves, curve = random_halvings(500, 0), roc(scores, member)
    called = np.zeros(500)
    for half in halves:
        best = []
        for part in (half, ~half):
            above = scores[part] >= curve.thresholds[:, None]
            best.append(
                curve.thresholds[
                    (above[:, member[part]].mean(1) - above[:, ~member[part]].mean(1)).argmax()
                ]
            )
        called += scores >= np.where(half, best[1], best[0])
    share = called / len(halves)
    tpr, fpr = share[member].mean(), share[~member].mean()
    expected = np.where(
        member, (share - tpr) / (2 * member.sum()), -(share - fpr) / (2 * (~member).sum())
    )
    np.testing.assert_allclose(
        estimate_balanced_accuracy(curve, halves).influence, expected, rtol=0, atol=1e-15
    )


def test_the_figures_without_the_balanced_accuracy_are_the_others():
    generator = np.random.default_rng(9)
    member = generator.random((2, 400)) < 0.5
    scores = generator.normal(size=(2, 400)) + member
    whole, some = (
        measure(scores, member, fprs=(0.1,), balanced=balanced) for balanced in (True, False)
    )
    assert set(whole.aggregate) - set(some.aggregate) == {"balanced_accuracy"}
    assert all(whole.aggregate[name] == some.aggregate[name] for name in some.aggregate)
    assert all(whole.targets[name] == some.targets[name] for name in some.targets)
