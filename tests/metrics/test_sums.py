"""Sums of floats that reach results are exactly rounded, so that every version of Python gives the same bytes.

Python 3.12 began to compensate the built-in `sum` of floats; ten times 0.1 is 0.9999999999999999 before and 1.0 since.
"""

from bitleak.metrics.matched_scale import matched_scale


def test_ten_equal_accuracies_have_their_value_as_the_mean():
    found = matched_scale(lambda scale, seed: 0.1, 0.1, seeds=range(10), tolerance=0.01)
    assert found.accuracy == 0.1
