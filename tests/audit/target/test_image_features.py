"""Features of images: moments and averages against plain ones, and the change by a larger brightness."""

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from bitleak.audit.target.image_features import features_of
from bitleak.data.stored_files import StoredFiles

RECORDS = 300


def features(pixels):
    labels = np.arange(len(pixels)) % 3
    return features_of(pixels, labels, np.arange(len(pixels)), StoredFiles(), 0)


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    made = rng.normal(120, 20, (RECORDS, 2, 1, 1)) + rng.normal(0, 15, (RECORDS, 2, 36, 34))
    return made.clip(0, 250)


def test_moments_are_those_of_each_channel(pixels):
    made = features(pixels)
    flat = pixels.reshape(RECORDS, 2, -1)
    expected = {
        "mean": flat.mean(axis=2),
        "deviation": flat.std(axis=2),
        "skewness": skew(flat, axis=2),
        "kurtosis": kurtosis(flat, axis=2, fisher=False),
    }
    for name, values in expected.items():
        for channel in range(2):
            column = made.numbers[:, made.names.index(f"{name} {channel}")]
            np.testing.assert_allclose(column, values[:, channel], rtol=2e-3, atol=2e-4)


def test_a_larger_brightness_changes_the_features_as_stated(pixels):
    made = features(pixels)
    deviation = pixels.mean(axis=(1, 2, 3)).std()
    alone = np.concatenate([pixels, pixels[:1] + deviation])
    # The components are computed from a draw of the records, so both are in one table.
    both = features(alone)
    change = both.numbers[-1] - both.numbers[0]
    np.testing.assert_allclose(change, both.brighter, rtol=0.02, atol=0.02 * np.abs(change).max())
    assert np.count_nonzero(made.brighter) == 2 + 32
    assert made.brighter[made.names.index("mean 0")] == pytest.approx(deviation, rel=1e-4)


def test_the_first_component_of_a_table_is_moved():
    rows = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    made = features(rows)
    assert made.brighter[0] == pytest.approx(made.numbers[:, 0].std(), rel=1e-4)
    assert not made.brighter[1:].any()
