import numpy as np
import pytest

from bitleak.core import random_columns
from bitleak.core.random_columns import uniform_columns


@pytest.mark.parametrize("source", [np.random.PCG64, np.random.MT19937])
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("columns", [0, 1, 17, 64])
def test_blocks_of_columns_are_those_of_the_whole_matrix(source, rows, columns, monkeypatch):
    monkeypatch.setattr(random_columns, "NUMBERS_AT_ONCE", 50)
    drawn, whole = (np.random.Generator(source(5)) for _ in range(2))
    # an odd number of small integers leaves half a draw, which the next one takes
    assert drawn.integers(7) == whole.integers(7)
    blocks = list(uniform_columns(drawn, rows, columns))
    expected = whole.random((rows, columns))
    gathered = np.empty((rows, columns))
    for block, numbers in blocks:
        gathered[:, block] = numbers
    np.testing.assert_array_equal(gathered, expected)
    assert drawn.integers(1 << 31, size=3).tolist() == whole.integers(1 << 31, size=3).tolist()
    assert drawn.random() == whole.random()


def test_a_generator_may_be_used_between_blocks(monkeypatch):
    monkeypatch.setattr(random_columns, "NUMBERS_AT_ONCE", 8)
    drawn, whole = (np.random.default_rng(1) for _ in range(2))
    gathered = []
    for _, numbers in uniform_columns(drawn, 4, 9):
        drawn.random(3)
        gathered.append(numbers)
    np.testing.assert_array_equal(np.concatenate(gathered, axis=1), whole.random((4, 9)))
