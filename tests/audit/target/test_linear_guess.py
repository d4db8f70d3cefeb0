"""The cross-fitted linear guess: against scikit-learn, exact p-values, and a power that comes true."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from bitleak.audit.target import linear_guess as module
from bitleak.audit.target.linear_guess import STIFFNESS, linear_guess

COLUMNS = 12


def table(records, seed=0):
    """Return columns, five of which move together, and a shift of these by 0.3 deviations."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(records, COLUMNS))
    columns[:, :5] = rng.normal(size=(records, 1)) + 0.4 * columns[:, :5]
    shift = np.zeros(COLUMNS, np.float32)
    shift[:5] = 0.3
    return (3 * columns + 7).astype(np.float32), 3 * shift


def split(records, seed):
    return np.random.default_rng(seed).random(records) < 0.5


def guess(columns, member, shift, seed=0):
    return linear_guess(columns, member, shift, level=0.005, seed=seed)


def student(scores, member):
    """The t of two samples, by the deviation within them."""
    groups = [scores[member], scores[~member]]
    within = np.sqrt(sum(((group - group.mean()) ** 2).sum() for group in groups) / len(scores))
    return (groups[0].mean() - groups[1].mean()) / within / np.sqrt(sum(1 / len(g) for g in groups))


def naive(standard, member, folds, shift=0.0):
    """Mean t of the folds by scikit-learn's ridge regression, after the members are shifted."""
    values, scores = [], np.empty(len(member))
    moved = standard + np.outer(member, np.broadcast_to(shift, standard.shape[1]))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(member)), fold.rows)
        training = [other for other in folds if other is not fold]
        centred, marks = moved[rest].copy(), member[rest].astype(float)
        for other in training:  # every fold less its own mean
            inside = np.isin(rest, other.rows)
            centred[inside] -= centred[inside].mean(axis=0)
            marks[inside] -= marks[inside].mean()
        within = centred - np.outer(marks, marks @ centred) / (marks @ marks)
        ridge = Ridge(alpha=STIFFNESS * len(rest), fit_intercept=False)
        ridge.fit(centred, marks)
        if np.any(shift):  # the scatter before the shift plus that of the shift along its own line
            before = standard[rest].copy()
            for other in training:
                inside = np.isin(rest, other.rows)
                before[inside] -= before[inside].mean(axis=0)
            within = before.T @ before - np.outer(marks @ before, marks @ before) / (marks @ marks)
            matrix = within + STIFFNESS * len(rest) * np.eye(len(within))
            weights = np.linalg.solve(matrix, marks @ centred)
        else:
            weights = ridge.coef_
        scores[fold.rows] = standard[fold.rows] @ weights
        values.append(student(moved[fold.rows] @ weights, member[fold.rows]))
    return np.mean(values), scores


@pytest.mark.parametrize("planted", [False, True])
def test_statistic_and_scores_are_those_of_ridge_regression_fold_by_fold(planted):
    columns, shift = table(150)
    member = split(150, 1)
    standard = ((columns - columns.mean(axis=0)) / columns.std(axis=0)).astype(np.float32)
    moved = (shift / columns.std(axis=0)).astype(np.float64) if planted else None
    folds = module._folds(standard, member, np.random.default_rng(2))
    sums = np.stack([fold.sums(member[fold.rows][None]) for fold in folds])
    statistic = module._statistics(folds, sums, moved)[0]
    expected, scores = naive(standard, member, folds, 0.0 if moved is None else moved)
    assert statistic == pytest.approx(expected, rel=1e-4)
    assert sorted(np.concatenate([fold.rows for fold in folds]).tolist()) == list(range(150))
    if not planted:
        found = linear_guess(columns, member, shift, level=0.005, seed=2)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-3, atol=1e-6)


def test_p_values_are_uniform_if_nothing_tells_members_from_others(monkeypatch):
    monkeypatch.setattr(module, "PERMUTATIONS", 99)
    columns, shift = table(80)
    values = np.array([guess(columns, split(80, seed), shift, seed).p_value for seed in range(400)])
    # 400 draws: three standard errors.
    for level in (0.05, 0.2, 0.5):
        assert (values <= level).mean() == pytest.approx(
            level, abs=3 * np.sqrt(level * (1 - level) / 400)
        )


def test_the_power_is_the_share_of_planted_shifts_that_are_found():
    columns, shift = table(500)
    found, power = 0, []
    for seed in range(40):
        member = split(500, seed)
        power.append(guess(columns, member, shift, seed).power)
        found += guess(columns + np.outer(member, shift), member, shift, seed).p_value < 0.005
    assert 0.3 < np.mean(power) < 0.9
    assert found / 40 == pytest.approx(np.mean(power), abs=3 * np.sqrt(0.25 / 40))


def test_the_power_grows_with_the_records_and_is_the_level_without_a_shift():
    powers = []
    for records in (120, 500, 1500):
        columns, shift = table(records)
        powers.append(guess(columns, split(records, 1), shift).power)
    assert powers == sorted(powers)
    assert powers[0] < 0.3 < 0.99 < powers[2]
    assert guess(columns, split(1500, 1), 0 * shift).power == pytest.approx(3 / 999)


def test_few_records_and_constant_columns_have_no_significance():
    columns = np.ones((5, 3), np.float32)
    member = np.array([True, True, False, False, False])
    found = guess(columns, member, np.ones(3, np.float32))
    assert found.p_value == 1.0
    assert found.power == 0.0
    assert np.isfinite(found.scores).all()
