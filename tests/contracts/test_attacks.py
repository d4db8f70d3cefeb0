"""What every attack of the registry promises."""

from dataclasses import is_dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.attacks import Attack, attack_view, expand, forms_by_word, two_class_signals
from bitleak.metrics import auc, roc
from bitleak.registry import ATTACKS

EVERY = [attack for word in forms_by_word() for attack in expand(word)]
WEAK = ("correct", "entropy", "two_sided")
"""Parts of the names of attacks that a shift of the mean alone must not let reach the best."""
COARSE = ("counts", "normal", "pinball")
"""Ends of the names of attacks whose score ties, or rests on the few population records of this world."""
SHARP = ("lira", "rmia", "threshold", "population", "reference", "calibrated", "quantile")
"""Beginnings of the names of attacks that must come near the best; of others it is not known how near."""


def world(seed, *, records=2000, models=18, shift=1.5, spread=0.0, queries=2):
    """Confidence = difficulty + shift * member + noise; the references are the rows but the first pair."""
    rng = np.random.default_rng(seed)
    first = rng.random((models // 2, records)).argsort(axis=1) < records // 2
    member = np.stack([first, ~first], axis=1).reshape(models, records)
    difficulty = spread * rng.standard_normal((records, queries))
    confidence = (
        difficulty + shift * member[:, :, None] + rng.standard_normal((models, records, queries))
    )
    outside = spread * rng.standard_normal((50, queries)) + rng.standard_normal(
        (models, 50, queries)
    )
    view = attack_view(
        target=two_class_signals(confidence[0]),
        references=two_class_signals(confidence[2:]),
        member=member[2:],
        use=np.ones_like(member[2:]),
        population_target=two_class_signals(outside[0]),
        population_references=two_class_signals(outside[2:]),
        labels=rng.integers(0, 3, records),
    )
    return view, member[0]


@pytest.mark.parametrize("word", ATTACKS)
def test_a_word_stands_for_frozen_dataclasses(word):
    for attack in expand(word):
        assert is_dataclass(attack)
        assert isinstance(attack, Attack)
        with pytest.raises(AttributeError):
            attack.anything = None


def test_names_are_unique():
    assert len({attack.name for attack in EVERY}) == len(EVERY)
    assert all(expand(attack.name) == (attack,) for attack in EVERY)


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_members_score_higher_as_the_closed_form_says(attack):
    """With many references and one query the best attack has AUC Phi(shift / sqrt 2); none has more."""
    view, member = world(0, records=8000, models=66, queries=1)
    best = norm.cdf(1.5 / np.sqrt(2))
    reached = auc(roc(attack(view), member))
    margin = 0.3
    if not any(part in attack.name for part in WEAK) and attack.name.startswith(SHARP):
        margin = 0.05 if attack.name.endswith(COARSE) else 0.02
    assert 0.55 < reached < best + 0.015
    assert reached > best - margin


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_a_memorising_target_is_found(attack):
    view, member = world(1, shift=4.0, spread=1.0)
    assert auc(roc(attack(view), member)) > 0.8


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_an_attack_that_takes_no_population_records_never_looks_at_them(attack):
    view, _ = world(5, records=200)
    none = replace(
        view,
        population_target=view.population_target[:0],
        population_references=view.population_references[:, :0],
    )
    if attack.fewest_population:
        few = attack.fewest_population - 1
        with pytest.raises(
            ValueError, match=f"at least {attack.fewest_population} population records, got {few}"
        ):
            attack(
                replace(
                    view,
                    population_target=view.population_target[:few],
                    population_references=view.population_references[:, :few],
                )
            )
    else:
        np.testing.assert_array_equal(attack(none), attack(view))


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_the_order_of_records_and_references_does_not_matter(attack):
    view, _ = world(2, records=300)
    rng = np.random.default_rng(0)
    records, refs = rng.permutation(300), rng.permutation(len(view.side))
    shuffled = replace(
        view,
        target=view.target[records],
        references=view.references[refs][:, records],
        side=view.side[refs][:, records],
        split=view.split[refs],
        population_references=view.population_references[refs],
        labels=view.labels[records],
    )
    np.testing.assert_allclose(attack(shuffled), attack(view)[records], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_scores_are_finite_and_the_view_unchanged_with_saturated_answers(attack):
    view, _ = world(3, records=200)
    confidence = view.target[..., 1].copy()
    confidence[0], confidence[1] = 300.0, -300.0
    references = view.references[..., 1].copy()
    references[:, 1], references[:, 2] = 300.0, 0.0
    extreme = replace(
        view, target=two_class_signals(confidence), references=two_class_signals(references)
    )
    before = (extreme.target.copy(), extreme.references.copy())
    scores = attack(extreme)
    assert scores.dtype == np.float64
    assert scores.shape == (200,)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(extreme.target, before[0])
    np.testing.assert_array_equal(extreme.references, before[1])


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_an_attack_without_references_never_looks_at_them(attack):
    view, _ = world(4, records=200)
    blind = replace(view, references=view.references[::-1] * 2.0, side=view.side[::-1])
    same = np.array_equal(attack(view), attack(blind))
    assert same == (not attack.uses_references)


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_an_attack_that_reads_out_references_only_says_so(attack):
    view, _ = world(6, records=200)
    references = view.references.copy()
    inside = view.side == 1
    noise = np.random.default_rng(6).normal(size=(*references.shape[:3], 1))
    references[inside] = two_class_signals(noise[..., 0])[inside]
    same = np.array_equal(attack(replace(view, references=references)), attack(view))
    if attack.uses_references:
        assert same == getattr(attack, "outside_only", False)
    else:
        assert same
