"""The learned joint attack: what it learns, from whom, and that a target has no part in it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from bitleak.attacks import Joint, LearnedJoint, masked_view
from bitleak.attacks.joint import joint_ratios
from bitleak.attacks.joint_learned import (
    STRENGTHS,
    Evidence,
    PlayedEvidence,
    _Regression,
    evidence_of,
    fitted,
    learned_classifier,
    player_rows,
    query_features,
)
from bitleak.attacks.player import Player
from bitleak.core.errors import TooFewForAttack
from bitleak.core.types import SIGNALS
from bitleak.data import even_mask
from bitleak.metrics import auc, roc, tpr_at

CONFIDENCE = SIGNALS.index("logit_scaled")


def views_of(worlds, member, releases):
    """Views of the target in row 0, whose complement is row 1, on records of different difficulty."""
    difficulty = np.random.default_rng(99).normal(3.0, 2.0, member.shape[1])
    views = []
    for confidence in releases:
        signal = (difficulty + confidence)[..., None]
        views.append(worlds["view"](signal[0], signal[2:], member[2:]))
    return views


def gaussian(worlds, seed, *, records=6000, references=8, shift=1.5, second=1.0):
    """Two releases with one shift of all records, and noise with a correlation of one half."""
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, 2 * references + 2, records)
    noise = rng.standard_normal((2, *member.shape))
    releases = [shift * member + noise[0], second * member + 0.5 * noise[0] + 0.75**0.5 * noise[1]]
    return views_of(worlds, member, releases), member[0]


def of_opposite_correlation(worlds, seed, *, records=6000, references=16, correlation=0.8):
    """Each release alone is the same for members and others; their product is not."""
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, 2 * references + 2, records)
    first, noise = rng.standard_normal((2, *member.shape))
    second = np.where(member, correlation, -correlation) * first
    second = second + np.sqrt(1 - correlation**2) * noise
    return views_of(worlds, member, [first, second]), member[0], first[0] * second[0]


def of_steady_distance(worlds, seed, *, records=6000, references=16):
    """Members' releases are one apart, others' on average: the same covariances, another |s_1 - s_2|."""
    rng = np.random.default_rng(seed)
    member = worlds["pairs"](rng, 2 * references + 2, records)
    first, noise = rng.standard_normal((2, *member.shape))
    sign = rng.choice([-1.0, 1.0], member.shape)
    second = first + np.where(member, sign + 0.2 * rng.standard_normal(member.shape), noise)
    return (
        views_of(worlds, member, [first, second]),
        member[0],
        -np.abs(np.abs(second - first)[0] - 1),
    )


def found(scores, member):
    curve = roc(scores, member)
    return auc(curve), tpr_at(curve, 0.01)


@pytest.mark.parametrize("references", [3, 8])
def test_it_is_not_below_the_gaussian_attack_where_that_is_right(worlds, references):
    """The Gaussian attack has the right model here; 2 standard errors of paired figures of 4 worlds."""
    differences = []
    for seed in range(4):
        views, member = gaussian(worlds, seed, references=references, records=4000)
        learned, plain = (found(attack(views), member) for attack in (LearnedJoint(), Joint()))
        differences.append(np.subtract(learned, plain))
    mean = np.mean(differences, axis=0)
    assert mean[0] > -0.003
    assert mean[1] > -0.015


@pytest.mark.parametrize("world", [of_opposite_correlation, of_steady_distance])
def test_it_finds_what_members_differ_in_by_no_mean_and_no_covariance(worlds, world):
    views, member, best = world(worlds, 0)
    assert found(Joint()(views), member)[0] < 0.68
    learned, perfect = (found(scores, member)[0] for scores in (LearnedJoint()(views), best))
    # it has to estimate centres and deviations of every record, which the perfect score knows
    assert perfect > 0.8
    assert learned > 0.5 + 0.6 * (perfect - 0.5)


@pytest.mark.parametrize("mode", ["pairs", "shadows"])
def test_noise_is_at_chance_with_informative_references(worlds, mode):
    """Four standard errors of an AUC of 10,000 members and 10,000 others."""
    rng = np.random.default_rng(3)
    member = worlds[mode](rng, 8, 20_000)
    target = rng.permutation(20_000) < 10_000
    difficulty = rng.normal(3.0, 2.0, 20_000)
    views = []
    for _ in range(2):
        references = difficulty + 2.0 * member + rng.standard_normal(member.shape)
        views.append(worlds["view"](rng.normal(4, 2.5, (20_000, 1)), references[..., None], member))
    error = np.sqrt(20_001 / (12 * 10_000**2))
    assert auc(roc(LearnedJoint()(views), target)) == pytest.approx(0.5, abs=4 * error)


def test_uneven_counts_do_not_betray_the_target(worlds):
    """References that all records have in other numbers, made even by the mask as in an audit."""
    rng = np.random.default_rng(5)
    member = rng.random((13, 20_000)) < 0.5
    member[:4], member[4:8] = True, False
    member[:8] = member[rng.permutation(8)]
    target = rng.permutation(20_000) < 10_000
    use = even_mask(member, 0)
    references = 2.0 * member + rng.standard_normal((2, *member.shape))
    noise = rng.standard_normal((2, 20_000, 1))
    views = [
        worlds["view"](*of, member, use) for of in zip(noise, references[..., None], strict=True)
    ]
    error = np.sqrt(20_001 / (12 * 10_000**2))
    assert auc(roc(LearnedJoint()(views), target)) == pytest.approx(0.5, abs=4 * error)


def test_players_have_as_many_references_on_both_sides_of_every_record(worlds, monkeypatch):
    seen = []
    original = Player.view
    monkeypatch.setattr(Player, "view", lambda self: seen.append(original(self)) or seen[-1])
    views, _ = gaussian(worlds, 0, records=400, references=4)
    learned_classifier(views)
    assert len(seen) == 4 * 2
    for view in seen:
        assert set(view.member.sum(axis=0)) == set(view.outside.sum(axis=0)) == {3}


def test_the_target_has_no_part_in_the_classifier(worlds):
    views, _ = gaussian(worlds, 1, records=2000)
    rng = np.random.default_rng(1)
    blind = [replace(view, target=view.target[rng.permutation(2000)]) for view in views]
    for one, other in zip(learned_classifier(views), learned_classifier(blind), strict=True):
        np.testing.assert_array_equal(one, other)
    # and it does depend on the references
    noise = rng.standard_normal(views[0].references.shape)
    other = [replace(view, references=view.references + noise) for view in views]
    assert not np.array_equal(learned_classifier(views).weights, learned_classifier(other).weights)


def test_players_are_on_different_training_sets():
    split = np.array([1, -1, 2, -2, 3, -3, 3, 4, -4, 5, -5])
    rows = player_rows(split)
    assert sorted(np.abs(split[rows])) == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(rows, player_rows(split))
    assert sorted(np.abs(split[player_rows(split[:4])])) == [1, 2]


def test_evidence_is_the_mean_over_queries_of_a_loop_over_records(worlds, slow):
    rng = np.random.default_rng(2)
    member = worlds["pairs"](rng, 8, 40)
    difficulty = rng.normal(3, 2, (40, 1))
    signals = difficulty + member[:, :, None] + rng.standard_normal((2, 8, 40, 2))
    views = [worlds["view"](of[0], of[2:], member[2:]) for of in signals]
    evidence = evidence_of(views)
    np.testing.assert_allclose(evidence.ratios.T, joint_ratios(views), rtol=1e-12)
    expected = []
    for query in range(2):
        one_query = [
            worlds["view"](of[0, :, [query]].T, of[2:, :, [query]], member[2:]) for of in signals
        ]
        ratios = joint_ratios(one_query).T
        places = np.array([slow_places(view, slow) for view in one_query]).T
        rows = []
        for z, u in zip(np.clip(places, -5, 5), np.arcsinh(ratios), strict=True):
            linear = [*z, *u]
            products = [a * b for index, a in enumerate(linear) for b in linear[index:]]
            rows.append([*linear, *products, abs(z[0] - z[1])])
        expected.append(rows)
    np.testing.assert_allclose(evidence.features, np.mean(expected, axis=0), rtol=1e-6, atol=1e-6)


def slow_places(view, slow):
    """The target between the centres, by the definitions of `attacks.shrink`, record by record."""
    answers = view.references[..., 0, CONFIDENCE]
    sides = slow["sides"](answers, view.member, view.use)
    fits = {side: slow["posterior"](sides[side]) for side in sides}
    means = {side: np.array([row.mean() for row in sides[side]]) for side in sides}
    counts = {side: len(sides[side][0]) for side in sides}
    shift = means["in"] - means["out"]
    between = max(shift.var() - sum(fits[side][0] / counts[side] for side in sides), 0.0)
    places = []
    for record in range(len(shift)):
        a, b = (fits[side][1][record] / counts[side] for side in ("out", "in"))
        gain = 1 / (a + b + between)
        surprise = shift[record] - shift.mean()
        centres = (
            means["in"][record] - b * gain * surprise,
            means["out"][record] + a * gain * surprise,
        )
        wide = fits["in"][1][record] + b - b**2 * gain + fits["out"][1][record] + a - a**2 * gain
        places.append((view.target[record, 0, CONFIDENCE] - sum(centres) / 2) / np.sqrt(wide / 2))
    return places


def played(seed, records=300, *, useful=0.0, training_set=1):
    """A player whose ratio is right, with one feature of noise and one that tells as `useful` says."""
    rng = np.random.default_rng(seed)
    member = rng.permutation(records) % 2 == 0
    ratios = rng.normal(2.0 * member - 1.0, np.sqrt(2.0))[:, None]
    features = rng.standard_normal((records, 2)) * [3.0, 1.0] + 5.0
    features[:, 1] += useful * member
    return PlayedEvidence(Evidence(ratios, features), member, training_set)


@pytest.mark.parametrize("strength", [np.inf, 1.0, 0.001])
def test_the_regression_is_that_of_its_definition(strength):
    """The same density by a search without gradients, on features in units of their own."""
    players = [played(0, useful=1.0), played(1, useful=1.0)]
    regression = _Regression(players)
    classifier = regression.classifier(regression.solved(strength, regression.start), strength)
    ratios = np.concatenate([player.evidence.ratios for player in players])
    features = np.concatenate([player.evidence.features for player in players])
    member = np.concatenate([player.member for player in players])
    spread = features.std(axis=0)

    def cost(point):
        slopes = point[2:] if np.isfinite(strength) else np.zeros(2)
        chance = 1 / (1 + np.exp(-(point[0] + ratios[:, 0] * point[1] + features @ slopes)))
        likelihood = np.log(np.where(member, chance, 1 - chance)).sum()
        prior = (len(member) * strength if np.isfinite(strength) else 1.0) * (slopes * spread) ** 2
        return -likelihood + 0.5 * (point[1] - 1) ** 2 + 0.5 * prior.sum()

    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    solution = minimize(cost, [0.0, 1.0, 0.0, 0.0], method="Nelder-Mead", options=options).x
    np.testing.assert_allclose(classifier.weights, solution[1:2], atol=1e-3)
    slopes = solution[2:] if np.isfinite(strength) else np.zeros(2)
    np.testing.assert_allclose(classifier.coefficients, slopes, atol=1e-3)


def test_features_count_only_if_they_help_on_players_that_were_left_out():
    by_player = [played(seed, training_set=seed) for seed in range(4)]
    helped = [played(seed, useful=2.0, training_set=seed) for seed in range(4)]
    # each player's noise tells its own members, and no other's: it would fit, and it must not
    misled = []
    for seed, player in enumerate(by_player):
        features = player.evidence.features.copy()
        features[:, 1] += (-2.0 if seed % 2 else 2.0) * player.member
        misled.append(player._replace(evidence=player.evidence._replace(features=features)))
    assert fitted(helped).strength < 1.0
    assert abs(fitted(helped).coefficients[1]) > 0.5
    assert fitted(misled).strength == np.inf
    assert fitted(misled).coefficients.tolist() == [0.0, 0.0]
    assert STRENGTHS[0] == np.inf


def test_a_set_and_its_complement_are_left_out_together():
    """Two players of one training set, who agree with each other alone."""
    first, second = played(0, useful=3.0, training_set=1), played(1, useful=3.0, training_set=1)
    third = played(2, useful=-3.0, training_set=2)
    assert fitted([first, second, third]).strength == np.inf


def test_a_constant_feature_has_no_coefficient():
    players = [played(seed, training_set=seed) for seed in range(2)]
    constant = [
        player._replace(evidence=player.evidence._replace(features=np.full((300, 2), 7.0)))
        for player in players
    ]
    assert fitted(constant).coefficients.tolist() == [0.0, 0.0]


def test_far_scores_are_cut_before_they_are_squared():
    near, far = (query_features(np.full((1, 2), place), np.zeros((1, 2))) for place in (5.0, 1e6))
    np.testing.assert_array_equal(near, far)


def test_the_scale_of_a_release_does_not_matter(worlds):
    views, _ = gaussian(worlds, 6, records=500)
    target, references = (of[..., CONFIDENCE] for of in (views[1].target, views[1].references))
    scaled = worlds["view"](3.0 * target - 7.0, 3.0 * references - 7.0, views[1].member)
    scores = LearnedJoint()(views)
    np.testing.assert_allclose(LearnedJoint()([views[0], scaled]), scores, rtol=1e-4, atol=1e-4)


def test_edges_have_finite_scores(edge):
    assert np.isfinite(LearnedJoint()([edge, edge])).all()


def test_too_few_references_are_named(worlds):
    views, _ = gaussian(worlds, 0, records=40, references=2)
    with pytest.raises(
        TooFewForAttack, match="joint-learned needs at least 3 usable IN references"
    ):
        LearnedJoint()(views)
    views, _ = gaussian(worlds, 0, records=40, references=3)
    use = views[0].use.copy()
    use[np.flatnonzero(views[0].member[:, 5])[0], 5] = False
    with pytest.raises(TooFewForAttack, match="got 2 for record 5"):
        LearnedJoint()([masked_view(view, use) for view in views])
    with pytest.raises(ValueError, match="at least one view, got none"):
        LearnedJoint()([])


def test_references_on_one_training_set_are_too_few(worlds):
    rng = np.random.default_rng(0)
    member = worlds["pairs"](rng, 2, 40)[[0, 1] * 4]
    signal = rng.standard_normal((8, 40, 1))
    view = worlds["view"](rng.standard_normal((40, 1)), signal, member)
    with pytest.raises(TooFewForAttack):
        LearnedJoint()([view, view])
