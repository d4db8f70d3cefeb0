import numpy as np
import pytest

from bitleak.core.errors import ConfigError
from bitleak.data.calibration_halves import calibration_candidates
from bitleak.data.digits import Digits
from bitleak.data.splits import make_splits


@pytest.fixture(scope="module")
def splits():
    return make_splits(
        Digits().load(None),
        mode="population",
        models=6,
        targets=2,
        calibration=0,
        population=100,
        seed=0,
    )


def test_candidates_are_members_and_every_one_is_in_half_of_the_calibration_sets(splits):
    found = calibration_candidates(splits, 2, candidates=64, models=16, population=50, seed=1)
    own = splits.pool[splits.member[2]]
    assert np.isin(found.pool, own).all()
    assert found.member.shape == (16, 64)
    assert (found.member.sum(axis=0) == 8).all()
    assert (found.member.sum(axis=1) == 32).all()
    assert (found.member[::2] ^ found.member[1::2]).all()
    assert len(np.unique(found.member, axis=0)) == 16
    assert np.isin(found.population, own).all()
    assert not np.isin(found.population, found.pool).any()


def test_the_seed_decides(splits):
    one, same, other = (
        calibration_candidates(splits, 0, candidates=32, models=16, population=0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert (one.pool == same.pool).all()
    assert (one.member == same.member).all()
    assert not np.array_equal(one.pool, other.pool)


def test_too_few_members_are_told(splits):
    with pytest.raises(
        ConfigError, match="candidates must be at most the target's 629 members, got 1000"
    ):
        calibration_candidates(splits, 0, candidates=1000, models=16, population=0, seed=0)
