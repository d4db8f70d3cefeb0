import itertools
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from scipy.stats import rankdata

from bitleak.attacks import RMIA, masked_view, subset_view
from bitleak.attacks.player import stand_in
from bitleak.attacks.reference_sums import refuse_few
from bitleak.attacks.rmia import CANDIDATES, blended, dominated
from bitleak.core.types import SIGNALS
from bitleak.metrics import auc, roc, tpr_at

CONFIDENCE = SIGNALS.index("logit_scaled")
FEW_VALUES = st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.5, 1.0, 3.0])


def population_world(worlds, seed=0, records=60, models=8, queries=2, population=25, scale=2.0):
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, models, records)
    difficulty, hard = rng.normal(1, 2, (records, queries)), rng.normal(1, 2, (population, queries))
    confidence = scale * (
        difficulty + 1.5 * member[:, :, None] + rng.normal(size=(models, records, queries))
    )
    outside = scale * (hard + rng.normal(size=(models, population, queries)))
    return worlds["view"](
        confidence[0], confidence[2:], member[2:], None, outside[0], outside[2:]
    ), member[0]


def exact_ratio(attack, target, references, groups, a):
    """log p(x | theta) - log p(x), mean over queries, with digits enough for a margin of 300."""
    found = []
    with mpmath.workdps(200):
        for record in range(len(target)):
            total = mpmath.mpf(0)
            for query in range(target.shape[1]):
                p = [
                    1 / (1 + mpmath.exp(-mpmath.mpf(f) / attack.temperature))
                    for f in references[:, record, query]
                ]
                means = [
                    mpmath.fsum(itertools.compress(p, of[:, record])) / int(of[:, record].sum())
                    for of in groups
                ]
                usual = (
                    mpmath.fsum(means) / len(means)
                    if a is None
                    else ((1 + a) * means[0] + 1 - a) / 2
                )
                own = 1 / (1 + mpmath.exp(-mpmath.mpf(target[record, query]) / attack.temperature))
                total += mpmath.log(own) - mpmath.log(usual)
            found.append(total / target.shape[1])
    return found


@pytest.mark.parametrize(
    ("mode", "a", "temperature"),
    [("online", None, 1.0), ("online", None, 2.0), ("offline", 0.3, 2.0), ("offline", 1.0, 1.0)],
)
def test_counts_equal_those_of_all_pairs_in_many_digits(edge, mode, a, temperature):
    edge = replace(
        edge,
        population_target=edge.population_target[:20],
        population_references=edge.population_references[:, :20],
    )
    out, inside = edge.use & ~edge.member, edge.use & edge.member
    attack = RMIA(mode, 1.0, temperature, "tuned" if a is None else a, ties="kept")
    x, z = ([of[..., CONFIDENCE] for of in pair] for pair in (
        (edge.target, edge.references), (edge.population_target, edge.population_references)
    ))  # fmt: skip
    of_x = exact_ratio(attack, *x, [out, inside] if a is None else [out], a)
    of_z = exact_ratio(attack, *z, [np.ones(z[1].shape[:2], bool)], a)
    for gamma in (1.0, 1.5):
        counts = [sum(one - other >= mpmath.log(gamma) for other in of_z) for one in of_x]
        np.testing.assert_array_equal(
            np.round(replace(attack, gamma=gamma)(edge) * len(of_z)), counts
        )
    ratios = attack._ratios(edge, a)[0]
    np.testing.assert_allclose(ratios, [float(ratio) for ratio in of_x], rtol=1e-9, atol=1e-14)


def slow_ratio(attack, target, references, groups, a):
    """log p(x | theta) - log p(x), mean over queries, record by record in plain probabilities."""
    found = []
    for record in range(len(target)):
        total = 0.0
        for query in range(target.shape[1]):
            p = [expit(f / attack.temperature) for f in references[:, record, query]]
            means = [
                np.mean(
                    [value for value, chosen in zip(p, group[:, record], strict=True) if chosen]
                )
                for group in groups
            ]
            usual = np.mean(means) if a is None else ((1 + a) * means[0] + 1 - a) / 2
            total += np.log(expit(target[record, query] / attack.temperature)) - np.log(usual)
        found.append(total / target.shape[1])
    return np.array(found)


def slow_scores(attack, view, a):
    x = [of[..., CONFIDENCE] for of in (view.target, view.references)]
    z = [of[..., CONFIDENCE] for of in (view.population_target, view.population_references)]
    out, inside = view.use & ~view.member, view.use & view.member
    of_x = slow_ratio(attack, *x, [out, inside] if a is None else [out], a)
    of_z = slow_ratio(attack, *z, [np.ones(z[1].shape[:2], bool)], a)
    counts = np.array([sum(one - other >= np.log(attack.gamma) for other in of_z) for one in of_x])
    return counts / len(of_z), of_x


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize(
    ("mode", "a"), [("online", None), ("offline", 0.0), ("offline", 0.3), ("offline", 1.0)]
)
def test_scores_equal_a_loop_over_pairs(worlds, mode, a, gamma, temperature):
    view, _ = population_world(worlds)
    use = view.use.copy()
    use[:2, 5] = False  # fewer references for one record
    view = masked_view(view, use)
    attack = RMIA(mode, gamma, temperature, "tuned" if a is None else a, ties="kept")
    shares, of_x = slow_scores(attack, view, a)
    np.testing.assert_allclose(attack(view), shares, rtol=0, atol=1e-12)
    assert 5 < len(np.unique(shares)) < len(shares)
    broken = (shares * 25 + rankdata(of_x) / 61) / 25
    np.testing.assert_allclose(replace(attack, ties="broken")(view), broken, rtol=0, atol=1e-12)


@given(
    arrays(float, st.integers(1, 20), elements=FEW_VALUES),
    arrays(float, st.integers(1, 15), elements=FEW_VALUES),
    FEW_VALUES,
)
def test_sorting_counts_what_comparing_all_pairs_counts(of_x, of_z, margin):
    naive = (of_x[:, None] >= (of_z + margin)[None, :]).sum(axis=1)
    np.testing.assert_array_equal(dominated(of_x, of_z, margin), naive)


@given(st.integers(0, 2**32 - 1))
def test_the_log_ratio_only_orders_records_with_equal_counts(seed):
    rng = np.random.default_rng(seed)
    of_x, of_z = rng.normal(size=30).round(1), rng.normal(size=9).round(1)
    counts = dominated(of_x, of_z, 0.0)
    scores = counts + rankdata(of_x) / 31
    np.testing.assert_array_equal(np.floor(scores), counts)
    np.testing.assert_array_equal(rankdata(scores), rankdata(of_x))


def test_a_confidence_beyond_float_precision_still_orders_the_records(worlds):
    member = np.array([[True], [True], [False], [False]]).repeat(3, axis=1)
    references = np.full((4, 3, 1), 45.0)
    view = worlds["view"](np.array([[44.0], [45.0], [46.0]]), references, member)
    for attack in (RMIA("online", temperature=1), RMIA("offline", temperature=1, a=0.3)):
        first, second, third = attack(view)
        assert first < second < third


def test_an_impossible_record_has_a_finite_score(worlds):
    view, _ = population_world(worlds, scale=800.0)
    for attack in (
        RMIA("online", temperature=1),
        RMIA("offline", temperature=1, a=1.0),
        RMIA("offline", a=0.5),
    ):
        assert np.isfinite(attack(view)).all()


def test_the_offline_form_joins_its_two_ends():
    p = np.array([[1e-9], [0.2], [0.7], [1 - 1e-12]])
    for a in (0.0, 0.3, 0.9, 1.0):
        expected = np.log(((1 + a) * p + 1 - a) / 2)
        np.testing.assert_allclose(blended(np.log(p), 1 - p, a), expected, rtol=1e-6, atol=1e-15)


def test_with_broken_ties_neither_gamma_nor_the_population_changes_the_order(worlds):
    view, _ = population_world(worlds, seed=1)
    base = rankdata(RMIA()(view))
    np.testing.assert_array_equal(rankdata(RMIA(gamma=3.0)(view)), base)
    few = replace(
        view,
        population_target=view.population_target[:3],
        population_references=view.population_references[:, :3],
    )
    np.testing.assert_array_equal(rankdata(RMIA()(few)), base)
    assert not np.array_equal(rankdata(RMIA(ties="kept")(view)), base)


@pytest.mark.parametrize("rounded", [True, False])
def test_ranks_and_counts_come_from_one_sort(worlds, rounded):
    view, _ = population_world(worlds, seed=2)
    if rounded:  # ties among the audited
        view = replace(view, target=view.target.round(0), references=np.zeros_like(view.references))
    of_x, of_z = RMIA()._ratios(view)
    assert (len(np.unique(of_x)) < len(of_x)) == rounded
    counts = (of_x[:, None] >= of_z).sum(axis=1)
    expected = (counts + rankdata(of_x) / (len(of_x) + 1)) / len(of_z)
    np.testing.assert_array_equal(RMIA()(view), expected)


def test_breaking_ties_finds_more(gaussian_world):
    view, member = gaussian_world(0, models=18, population=100)
    broken, kept = (roc(RMIA(ties=ties)(view), member) for ties in ("broken", "kept"))
    assert auc(broken) > auc(kept)
    assert tpr_at(broken, 0.01) > tpr_at(kept, 0.01)


def test_the_tuned_slope_is_the_best_on_a_reference_that_plays_the_target(worlds):
    view, _ = population_world(worlds, seed=3, records=400)
    attack = RMIA("offline")
    known = stand_in(view)
    confidence = view.references[..., CONFIDENCE]
    out = view.outside[known.references]
    others, target = confidence[known.references], confidence[known.row]
    ratios = [slow_ratio(attack, target, others, [out], a) for a in CANDIDATES]
    areas = [auc(roc(ratio, view.member[known.row])) for ratio in ratios]
    assert attack.tuned_a(view) == CANDIDATES[int(np.argmax(areas))]
    assert max(areas) > min(areas) + 0.01
    np.testing.assert_array_equal(attack(view), replace(attack, a=attack.tuned_a(view))(view))


def test_the_model_that_plays_the_target_is_a_reference_without_its_complement(worlds):
    view, _ = population_world(worlds, seed=4)
    use = view.use.copy()
    use[:, 7] = False
    known = stand_in(masked_view(view, use))
    means = view.population_references[..., CONFIDENCE].mean(axis=(1, 2))
    row = int(np.argsort(means)[(len(means) - 1) // 2])
    kept = np.delete(np.arange(60), 7)
    assert known.row == row
    np.testing.assert_array_equal(np.flatnonzero(known.records), kept)
    np.testing.assert_array_equal(np.flatnonzero(~known.references), [row & ~1, row | 1])
    assert (view.outside[np.ix_(known.references, kept)].sum(axis=0) == 2).all()


def test_tuning_never_looks_at_the_target(worlds):
    view, _ = population_world(worlds, seed=5)
    other = replace(view, target=view.target[::-1], population_target=view.population_target * 0.5)
    assert RMIA("offline").tuned_a(view) == RMIA("offline").tuned_a(other)


def test_two_references_a_side_are_enough(worlds):
    view, _ = population_world(worlds, models=6)
    assert np.isfinite(RMIA("offline")(view)).all()
    assert np.isfinite(RMIA("offline", a=0.3)(subset_view(view, 1, np.random.default_rng(0)))).all()


def test_names_say_what_differs_from_the_defaults():
    assert (
        RMIA("offline", gamma=2, temperature=1.0, a=0.3, ties="kept").name
        == "rmia-offline-a0.3-gamma2-t1-counts"
    )
    assert RMIA(a=0.3).name == "rmia-online"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 0.5}, "gamma must be a number in \\[1"),
        ({"temperature": 0.0}, "temperature must be a number in \\(0"),
        ({"a": 1.5}, "a must be a number in \\[0, 1\\]"),
    ],
)
def test_a_field_out_of_range_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RMIA(**change)


def test_one_reference_that_lacks_is_named_in_the_singular():
    used = np.ones((2, 3), bool)
    used[:, 1] = False
    with pytest.raises(
        ValueError, match="rmia needs at least 1 usable OUT reference for every record, got 0"
    ):
        refuse_few(used, 1, "rmia", side="OUT")
