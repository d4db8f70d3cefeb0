from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from bitleak.attacks import Joint, LearnedJoint, LiRA, masked_view
from bitleak.attacks.joint import (
    joint_ratios,
    slopes,
    tuned,
    weights,
)
from bitleak.attacks.player import player_view
from bitleak.attacks.reference_sums import sums
from bitleak.attacks.shrink import posterior
from bitleak.core.types import SIGNALS
from bitleak.metrics import auc, roc, tpr_at

CONFIDENCE = SIGNALS.index("logit_scaled")


def releases(
    worlds, seed=0, *, records=6000, references=8, noise=(0.0, 1.0), kept=(1.0, 0.6), spread=0.5
):
    """Copies of one target: each keeps a share of the original's score and adds noise of its own."""
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, 2 * references + 2, records)
    own = np.exp(spread * rng.standard_normal((records, 1)))
    memory = rng.exponential(1.2, (records, 1))
    base = (
        rng.normal(3, 2, (records, 1))
        + memory * member[:, :, None]
        + own * rng.standard_normal((*member.shape, 1))
    )
    views = []
    for share, extra in zip(kept, noise, strict=True):
        copy = share * base + extra * rng.standard_normal(base.shape)
        views.append(worlds["view"](copy[0], copy[2:], member[2:]))
    return views, member[0]


def found(scores, member):
    curve = roc(scores, member)
    return auc(curve), tpr_at(curve, 0.01)


@pytest.mark.parametrize("count", [2, 3])
def test_scores_equal_a_loop_over_records(edge, worlds, slow, count):
    """Slopes by least squares over all rows, then the shrunk ratio of each release's residual, record by record."""
    views, rng = [edge], np.random.default_rng(count)
    of_edge = [of[..., CONFIDENCE] for of in (edge.target, edge.references)]
    for share in (0.7, 0.4)[: count - 1]:
        own, others = (share * of + 0.5 * rng.standard_normal(of.shape) for of in of_edge)
        view = worlds["view"](own, np.nan_to_num(others), edge.member, edge.use)
        views.append(replace(view, split=edge.split))
    tried = [player_view(view, np.random.default_rng(0)) for view in views]
    assert (
        min(
            (tried[0][0].use & side).sum(axis=0).min()
            for side in (tried[0][0].member, ~tried[0][0].member)
        )
        >= 2
    )
    played = [
        [player_view(view, np.random.default_rng(player)) for view in views] for player in range(6)
    ]
    member = np.concatenate([one[0][1] for one in played])
    tried = []
    for first in range(count):
        order = [first, *[place for place in range(count) if place != first]]
        of_players = [slow_ratios([one[place][0] for place in order], slow) for one in played]
        believed, loss = slow_weights(np.concatenate(of_players, axis=1), member)
        tried.append((loss, believed, order))
    clear = [one for one in tried if one[0] <= tried[0][0] - 3]
    _, believed, order = min(clear or tried[:1], key=lambda one: one[0])
    expected = slow_ratios([views[place] for place in order], slow)
    np.testing.assert_allclose(Joint()(views), believed @ expected, rtol=1e-5, atol=1e-5)


def slow_ratios(views, slow):
    """Record by record, the mean over the queries."""
    queries = views[0].target.shape[1]
    return np.mean([slow_query(views, slow, query) for query in range(queries)], axis=0)


def slow_query(views, slow, query):
    view = views[0]
    target = np.stack([one.target[:, query, CONFIDENCE] for one in views], axis=-1)
    answers = np.stack([one.references[:, :, query, CONFIDENCE] for one in views], axis=-1)
    found = []
    for release in range(len(views)):
        rows = []
        for of_side in slow["sides"](answers, view.member, view.use).values():
            _, variance, _ = slow["posterior"]([values[:, release] for values in of_side])
            for values, v in zip(of_side, variance, strict=True):
                rows.append((values - values.mean(axis=0)) / np.sqrt(v))
        rows = np.concatenate(rows)
        slope = np.linalg.lstsq(rows[:, :release], rows[:, release])[0] if release else np.zeros(0)
        own = (target[:, release] - target[:, :release] @ slope)[:, None]
        new = (answers[..., release] - answers[..., :release] @ slope)[..., None]
        found.append(
            slow["shrunk"](LiRA("online", "shrunk"), own, slow["sides"](new, view.member, view.use))
        )
    return np.array(found)


def slow_weights(ratios, member):
    """The same regression by a search that uses no gradient."""

    def cost(point):
        margins = point[0] + np.abs(point[1:]) @ ratios
        chances = [1 / (1 + np.exp(-margin)) for margin in margins]
        likelihood = sum(
            np.log(p if inside else 1 - p) for p, inside in zip(chances, member, strict=True)
        )
        return -likelihood + 0.5 * ((np.abs(point[1:]) - 1) ** 2).sum()

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000, "maxfev": 5000}
    solution = minimize(cost, np.ones(1 + len(ratios)), method="Nelder-Mead", options=options)
    found = np.abs(solution.x[1:])
    return found / found.max(), solution.fun


@pytest.mark.parametrize("telling", [(1.0, 1.0), (1.0, 0.0), (1.0, -0.5), (0.3, 1.0)])
def test_the_weights_are_those_of_logistic_regression(telling):
    rng = np.random.default_rng(4)
    member = np.arange(400) % 2 == 0
    ratios = np.array([rng.normal(share * (2.0 * member - 1.0), 1.4) for share in telling])
    (found, loss), (expected, least) = weights(ratios, member), slow_weights(ratios, member)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert loss == pytest.approx(least, abs=1e-6)


def test_without_references_to_spare_all_releases_count_alike(worlds):
    views, _ = releases(worlds, records=60, references=2)
    order, believed = tuned(views[::-1])
    assert order == (0, 1)
    np.testing.assert_array_equal(believed, [1.0, 1.0])


def test_the_target_has_no_part_in_the_weights(worlds):
    views, _ = releases(worlds, records=400)
    rng = np.random.default_rng(1)
    blind = [replace(view, target=view.target[rng.permutation(400)]) for view in views]
    assert tuned(blind).order == tuned(views).order
    np.testing.assert_array_equal(tuned(blind).weights, tuned(views).weights)


def test_one_release_with_one_query_is_lira(worlds):
    (view,), _ = releases(worlds, records=300, noise=(0.0,), kept=(1.0,))
    np.testing.assert_allclose(Joint()([view]), LiRA("online", "shrunk")(view), rtol=1e-12)


@pytest.mark.parametrize("references", [3, 8, 32])
def test_two_noisy_copies_tell_more_than_the_better_one(worlds, references):
    views, member = releases(worlds, 1, references=references, noise=(1.0, 1.0), kept=(1.0, 1.0))
    single = [found(LiRA()(view), member) for view in views]
    area, rate = found(Joint()(views), member)
    assert area > max(area for area, _ in single) + 0.005
    assert rate > max(rate for _, rate in single)


@pytest.mark.parametrize("references", [3, 8, 32])
def test_a_copy_that_is_noise_around_the_original_costs_little(worlds, references):
    views, member = releases(worlds, 2, references=references)
    single = [found(LiRA()(view), member) for view in views]
    area, rate = found(Joint()(views), member)
    assert area > max(area for area, _ in single) - 0.001
    assert rate > max(rate for _, rate in single) - 0.01


@pytest.mark.parametrize("references", [4, 8])
def test_a_copy_that_keeps_another_share_of_every_record_costs_nothing(worlds, references):
    """One slope for all records is wrong here, so what the copy seems to add is not believed: the plain sum loses."""
    (view,), member = releases(worlds, 9, references=references, noise=(0.0,), kept=(1.0,))
    rng = np.random.default_rng(9)
    share = rng.uniform(0.3, 1.1, (6000, 1))
    copies = [
        share * of + 0.3 * rng.standard_normal(of.shape)
        for of in (view.target[..., CONFIDENCE], view.references[..., CONFIDENCE])
    ]
    views = [view, worlds["view"](*copies, view.member)]
    best = found(LiRA()(view), member)
    assert found(Joint()(views), member)[0] > best[0] - 0.001
    assert found(joint_ratios(views).sum(axis=0), member)[0] < best[0] - 0.004


def test_common_noise_cancels_between_releases(worlds):
    """A second release that shows nothing but the noise of the first: alone at chance, together better."""
    rng = np.random.default_rng(3)
    member = worlds["pairs"](rng, 18, 4000)
    noise = rng.standard_normal((18, 4000, 1))
    first, second = 1.0 * member[:, :, None] + noise, noise + 0.3 * rng.standard_normal(noise.shape)
    views = [worlds["view"](of[0], of[2:], member[2:]) for of in (first, second)]
    alone = [found(LiRA()(view), member[0])[0] for view in views]
    assert alone[1] == pytest.approx(0.5, abs=0.02)
    assert found(Joint()(views), member[0])[0] > alone[0] + 0.1


def test_the_same_release_twice_tells_no_more_and_is_finite(worlds):
    (view,), member = releases(worlds, 4, records=2000, noise=(0.0,), kept=(1.0,))
    once, twice, thrice = (found(Joint()([view] * times), member) for times in (1, 2, 3))
    assert twice[0] == pytest.approx(once[0], abs=0.01)
    assert thrice[0] == pytest.approx(once[0], abs=0.01)


def test_a_noise_target_is_at_chance(worlds):
    views, member = releases(worlds, 5, records=10_000)
    rng = np.random.default_rng(0)
    blind = [replace(view, target=view.target[rng.permutation(10_000)]) for view in views]
    assert found(Joint()(blind), member)[0] == pytest.approx(0.5, abs=0.02)


def test_the_scale_of_a_release_does_not_matter(worlds):
    views, _ = releases(worlds, 6, records=500, noise=(0.5, 0.0), kept=(1.0, 1.0))
    confidence = [view.target[..., SIGNALS.index("logit_scaled")] for view in views]
    references = [view.references[..., SIGNALS.index("logit_scaled")] for view in views]
    scaled = worlds["view"](3.0 * confidence[1] - 7.0, 3.0 * references[1] - 7.0, views[1].member)
    np.testing.assert_allclose(Joint()([views[0], scaled]), Joint()(views), rtol=1e-6, atol=1e-6)


def test_the_slopes_are_those_of_weighted_least_squares(worlds, monkeypatch):
    rng = np.random.default_rng(7)
    member = worlds["pairs"](rng, 6, 200)
    use = np.ones_like(member)
    use[0, :50] = False
    answers = (
        rng.normal(size=(6, 200, 3))
        @ rng.normal(size=(3, 3))
        * np.exp(rng.normal(size=(1, 200, 1)))
    )
    monkeypatch.setattr("bitleak.attacks.attack.SCORE_BLOCK", 6 * 3 * 7)
    rows, weights = [], []
    sides = use & member, use & ~member
    for side in sides:
        variance = posterior(sums(answers[..., 2:], side))[0][:, 0]
        for record in range(200):
            chosen = answers[side[:, record], record]
            rows.append(chosen - chosen.mean(axis=0))
            weights += [1 / variance[record]] * len(chosen)
    residuals, root = np.concatenate(rows), np.sqrt(weights)[:, None]
    expected = np.linalg.lstsq(residuals[:, :2] * root, residuals[:, 2] * root[:, 0])[0]
    known = sums(answers, sides[0]), sums(answers, sides[1])
    np.testing.assert_allclose(slopes(answers, *sides, known), expected, rtol=1e-8)


def test_views_of_different_references_are_refused(worlds):
    views, _ = releases(worlds, records=40)
    other = replace(views[1], side=-views[1].side)
    with pytest.raises(ValueError, match="side of view 1 differs"):
        Joint()([views[0], other])
    with pytest.raises(ValueError, match="at least one view, got none"):
        Joint()([])


def test_a_record_short_of_references_is_named(worlds):
    views, _ = releases(worlds, records=40, references=3)
    use = views[0].use.copy()
    use[np.flatnonzero(views[0].member[:, 5])[:2], 5] = False
    with pytest.raises(
        ValueError, match="joint needs at least 2 usable IN references for every record, got 1"
    ):
        Joint()([masked_view(view, use) for view in views])


def test_releases_that_never_vary_have_finite_scores(worlds):
    member = worlds["pairs"](np.random.default_rng(0), 6, 20)
    view = worlds["view"](np.ones((20, 1)), np.ones((6, 20, 1)), member)
    assert np.isfinite(Joint()([view, view])).all()


@pytest.mark.parametrize("attack", [Joint(), LearnedJoint()], ids=lambda attack: attack.name)
def test_a_release_that_tells_clearly_more_is_the_first(worlds, attack):
    """A copy that leaks far more, with slopes that differ between records, named first or last."""
    rng = np.random.default_rng(7)
    member = worlds["pairs"](rng, 18, 2000)
    memory = rng.exponential(1.2, (2000, 1)) * member[:, :, None]
    noise = rng.standard_normal((*member.shape, 1))
    own = np.exp(0.8 * rng.standard_normal((2000, 1)))
    weak = 0.4 * memory + own * noise
    strong = memory + own**2 * noise + 0.5 * rng.standard_normal(noise.shape)
    views = [worlds["view"](copy[0], copy[2:], member[2:]) for copy in (weak, strong)]
    alone = [found(attack([view]), member[0])[0] for view in views]
    assert alone[1] > alone[0] + 0.02
    scores = attack(views)
    np.testing.assert_array_equal(attack(views[::-1]), scores)
    assert found(scores, member[0])[0] > alone[1] - 0.003
