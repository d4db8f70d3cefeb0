import numpy as np

from bitleak.data.copies import NEAR, copies_of


def test_copies_are_counted_as_every_pair_compared_finds_them():
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 230, (60, 3, 9, 9)).astype(np.uint8)
    pixels[10], pixels[50] = pixels[0], pixels[1]
    pixels[11] = pixels[2] + 5
    pixels[12] = pixels[3] + 7
    pixels[51] = pixels[4] + 5
    labels = np.arange(60) % 2
    labels[10] = 1
    found = copies_of(pixels, labels, np.arange(50), np.arange(50, 60))
    flat = pixels.reshape(60, -1).astype(float)
    distance = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(-1))
    np.fill_diagonal(distance, np.inf)
    nearest = distance[:, :50].min(1)
    assert found.exact == (nearest[:50] == 0).sum() == 2
    assert found.near == ((nearest[:50] > 0) & (nearest[:50] <= NEAR)).sum() == 2
    assert (found.across_exact, found.across_near, found.conflicting) == (1, 1, 2)
    assert len(found.sentences()) == 2


def test_without_copies_nothing_is_said():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
    assert copies_of(pixels, np.zeros(20, np.int64), np.arange(12), np.arange(12, 20)).sentences() == ()


def test_one_grey_value_for_all_images_is_one_group():
    found = copies_of(np.full((5, 1, 1, 1), 9, np.uint8), np.zeros(5, np.int64), np.arange(4), np.arange(4, 5))
    assert (found.exact, found.near, found.across_exact) == (4, 0, 1)
