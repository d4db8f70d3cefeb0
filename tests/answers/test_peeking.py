"""Nothing that an attack can look at depends on the target's membership, whatever the matrix is."""

from types import SimpleNamespace

import numpy as np
import pytest

from bitleak.answers.attack_design import attack_design
from bitleak.attacks import attack_view, player_view, subset_view, two_class_signals
from bitleak.core.errors import DataError
from bitleak.core.types import IN, OUT, UNUSED, Images
from bitleak.data.splits import make_splits, references
from bitleak.metrics import auc, roc

RECORDS = 4000


def keep(rng, models, records=RECORDS):
    """The LiRA authors' matrix: every record in half of the models, at random."""
    return rng.random((models, records)).argsort(axis=0) < models // 2


def pairs(rng, models):
    half = rng.random((models // 2, RECORDS)) < 0.5
    return np.concatenate([half, ~half])


def folds(rng, models, repeats):
    return np.concatenate(
        [
            rng.integers(0, models, RECORDS)[None] != np.arange(models)[:, None]
            for _ in range(repeats)
        ]
    )


def nearly(rng, member, row, of, share=0.02):
    """The row is the other one but for a few records."""
    member[row] = member[of] ^ (rng.random(RECORDS) < share)
    return member


MATRICES = {
    "pairs": lambda rng: pairs(rng, 16),
    "keep": lambda rng: keep(rng, 16),
    "keep of few models": lambda rng: keep(rng, 6),
    "a keep matrix of which three models are lost": lambda rng: keep(rng, 16)[3:],
    "pairs of which one model is lost": lambda rng: pairs(rng, 16)[:-1],
    "coins": lambda rng: rng.random((16, RECORDS)) < 0.5,
    "coins of unequal records": lambda rng: (
        rng.random((20, RECORDS)) < np.linspace(0.3, 0.7, RECORDS)
    ),
    "coins of unequal models": lambda rng: (
        rng.random((20, RECORDS)) < np.linspace(0.4, 0.6, 20)[:, None]
    ),
    "two experiments": lambda rng: np.concatenate([keep(rng, 10), keep(rng, 10)]),
    "an experiment beside coins": lambda rng: np.concatenate(
        [keep(rng, 10), rng.random((8, RECORDS)) < 0.5]
    ),
    "three seeds of each split": lambda rng: np.repeat(keep(rng, 8), 3, axis=0),
    "two or three seeds of each split": lambda rng: np.repeat(keep(rng, 8), 3, axis=0)[
        [0, 1, *range(3, 24)]
    ],
    "three seeds of coins": lambda rng: np.repeat(rng.random((12, RECORDS)) < 0.5, 3, axis=0),
    "a keep matrix with complements": lambda rng: (lambda half: np.concatenate([half, ~half]))(
        keep(rng, 10)
    ),
    "repeated folds": lambda rng: folds(rng, 4, 4),
    "the target's twin but for a few records": lambda rng: nearly(
        rng, rng.random((16, RECORDS)) < 0.5, 5, 0
    ),
    "the target's complement but for a few records": lambda rng: nearly(rng, ~pairs(rng, 16), 8, 8),
}


def view_of(member, found, target=0, leak=3.0):
    """Answers that tell IN from OUT references at a glance; the target's tell nothing."""
    rng = np.random.default_rng(9)
    rows, use = found.references(target)
    answers = (
        rng.normal(size=(len(rows), len(found.records), 1)) + leak * found.member[rows][:, :, None]
    )
    return attack_view(
        target=two_class_signals(rng.normal(size=(len(found.records), 1))),
        references=two_class_signals(answers),
        member=found.member[rows],
        use=use,
        population_target=np.zeros((0, 1, 6)),
        population_references=np.zeros((len(rows), 0, 1, 6)),
        labels=np.zeros(len(found.records), np.int64),
    )


def looks(view):
    """Functions of what is seen of each record, by name."""
    side, seen = view.side.astype(float), view.references[:, :, 0, 1]
    hidden = np.isnan(seen)
    rng = np.random.default_rng(1)
    found = {
        "members": view.member.sum(axis=0),
        "not members": (~view.member).sum(axis=0),
        "outside": view.outside.sum(axis=0),
        "used": view.use.sum(axis=0),
        "hidden": hidden.sum(axis=0),
        "sum": np.nansum(seen, axis=0),
        "mean": np.nanmean(seen, axis=0),
        "where hidden": (hidden * np.arange(len(seen))[:, None]).sum(axis=0),
    }
    found |= {f"side {row}": each for row, each in enumerate(side)}
    found |= {f"hidden {row}": each for row, each in enumerate(hidden)}
    found |= {f"weights {draw}": rng.normal(size=len(side)) @ side for draw in range(5)}
    for start in range(
        0, len(side), 3
    ):  # parts of the rows, as of experiments that were put together
        for stop in range(start + 2, len(side) + 1):
            found[f"sum {start}:{stop}"] = side[start:stop].sum(axis=0)
            found[f"hidden {start}:{stop}"] = hidden[start:stop].sum(axis=0)
    for one in range(len(side) - 1):
        found[f"neighbours {one}"] = side[one] * side[one + 1]
    return found


def learned(view, member):
    """AUC on one half of the records of a regression on all sides, squares and products, fitted to the other half."""
    side = view.side.astype(float)
    upper = np.triu_indices(len(side), 1)
    features = np.concatenate(
        [np.ones((1, side.shape[1])), side, side**2, side[upper[0]] * side[upper[1]]]
    ).T
    half = np.arange(len(member)) % 2 == 0
    product = features[half].T @ features[half] + 10 * np.eye(features.shape[1])
    weights = np.linalg.solve(product, features[half].T @ (member[half] - 0.5))
    return auc(roc(features[~half] @ weights, member[~half])), half


def error(member):
    """Standard error of the AUC of a score that knows nothing."""
    inside = member.sum()
    return np.sqrt((len(member) + 1) / (12 * inside * (len(member) - inside)))


@pytest.mark.parametrize("name", MATRICES)
def test_nothing_in_a_view_tells_members_from_others(name):
    matrix = MATRICES[name](np.random.default_rng(0))
    found = attack_design(matrix, (0,), references=True, seed=0, source="FILE")
    member, view = found.member[0], view_of(matrix, found)
    assert found.referenced
    assert set(view.side.sum(axis=0)) == {0}
    assert len(set(view.member.sum(axis=0))) == 1
    assert view.member[:, 0].sum() == found.per_side() >= 2
    wrong = {
        what: area
        for what, values in looks(view).items()
        if abs((area := auc(roc(values.astype(float), member))) - 0.5) > 4.5 * error(member)
    }
    assert not wrong
    area, half = learned(view, member)
    assert abs(area - 0.5) < 4.5 * error(member[~half])


def test_the_same_split_and_folds_never_serve():
    """Rows 0 to 2 are seeds of one split, 3 is its complement; 12 to 15 are folds, each out of one."""
    rng = np.random.default_rng(3)
    member = rng.random((16, RECORDS)) < 0.5
    member[1], member[2], member[3] = member[0], member[0], ~member[0]
    member[12:] = folds(rng, 4, 1)
    found = attack_design(member, (0, 12), references=True, seed=0, source="FILE")
    assert found.references(0)[0].tolist() == list(range(4, 16))
    assert found.serving[0].twins == (1, 2)
    assert found.references(12)[0].tolist() == list(range(12))
    assert found.serving[1].kin == (13, 14, 15)


def test_models_that_lack_the_same_class_still_serve_each_other():
    rng = np.random.default_rng(4)
    labels, lacking = rng.integers(0, 4, 20_000), np.arange(16) % 4
    member = (rng.random((16, 20_000)) < 0.5) & (labels[None] != lacking[:, None])
    known = attack_design(member, (0,), references=True, seed=0, source="FILE", labels=labels)
    assert known.serving[0].kin == ()
    assert (
        attack_design(member, (0,), references=True, seed=0, source="FILE").serving[0].kin
    )  # by the matrix alone: related


def test_what_a_player_and_fewer_references_see_is_hidden_as_well():
    matrix = keep(np.random.default_rng(5), 14)
    view = view_of(matrix, attack_design(matrix, (0,), references=True, seed=0, source="FILE"))
    few = subset_view(view, 3, np.random.default_rng(0))
    played, known = player_view(view, np.random.default_rng(0))
    for seen in (few, played):
        np.testing.assert_array_equal(
            np.isnan(seen.references).all(axis=(2, 3)), seen.side == UNUSED
        )
        np.testing.assert_array_equal(
            np.isnan(seen.references).any(axis=(2, 3)), seen.side == UNUSED
        )
        assert set(seen.side.sum(axis=0)) == {0}
    assert (few.member.sum(axis=0) == 3).all()
    assert (
        0 < len(known) == len(played.target) < RECORDS
    )  # of the others it is hidden whether they were trained on
    area, half = learned(played, known)
    assert abs(area - 0.5) < 4.5 * error(known[~half])


@pytest.mark.parametrize("mode", ["population", "dedicated"])
def test_the_splits_made_here_hide_nothing_and_betray_nothing(mode):
    images = Images(
        np.zeros((4000, 1, 1, 1), np.uint8),
        np.arange(4000) % 4,
        ("a", "b", "c", "d"),
        np.arange(4000) >= 3900,
    )
    splits = make_splits(
        images, mode=mode, targets=2, calibration=10, population=10, seed=0, models=12, shadows=10
    )
    for target in splits.targets:
        rows, use = references(splits, target)
        assert use.all()
        found = SimpleNamespace(
            references=lambda _, pair=(rows, use): pair, member=splits.member, records=splits.pool
        )
        view, member = view_of(splits.member, found), splits.member[target]
        assert set(np.unique(view.side)) == {IN, OUT}
        assert (view.side.sum(axis=0) == 0).all()
        area, half = learned(view, member)
        assert abs(area - 0.5) < 4.5 * error(member[~half])


@pytest.mark.parametrize("target", [0, 5, 12])
def test_subsets_within_subsets_have_no_references(target):
    """A record of a smaller set is in every larger one, so that the sides of a few models place the target's."""
    matrix = np.random.default_rng(0).random(RECORDS) < np.linspace(0.3, 0.7, 16)[:, None]
    assert not attack_design(matrix, (target,), references=True, seed=0, source="FILE").referenced


def test_a_target_that_its_references_tell_is_refused_by_name():
    rng = np.random.default_rng(6)
    member = rng.random((12, RECORDS)) < 0.5
    member[0] = (
        member[1:6].sum(axis=0) + 0.8 * rng.normal(size=RECORDS) > 2.5
    )  # a vote of five others, nearly
    member[1:6] ^= rng.random((5, RECORDS)) < 0.35  # each of which alone says little
    with pytest.raises(DataError, match="references of target 0 were trained on tells its members"):
        attack_design(member, tuple(range(12)), references=True, seed=0, source="FILE")
    assert attack_design(member, (6, 7), references=True, seed=0, source="FILE").referenced
