import numpy as np
import pytest
import torch

from bitleak.core.types import Images
from bitleak.data import DIGIT_QUERIES, PHOTO_QUERIES, check_queries
from bitleak.data.array_images import channel_statistics, queried_array, standardized_array
from bitleak.data.augment import apply_query, augmented, padding, standardize


def batch(records, size=8, channels=3, seed=0):
    """No pixel is 0, so that black borders can be told from the image."""
    shape = (records, channels, size, size)
    return torch.randint(
        1, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shifted_by_loop(image, right, down):
    """image [channels, height, width] moved pixel by pixel."""
    out = np.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y + down < height and 0 <= x + right < width:
                out[:, y + down, x + right] = image[:, y, x]
    return out


def all_crops(image, border):
    return {
        shifted_by_loop(image, right, down).tobytes(): (right, down)
        for right in range(-border, border + 1)
        for down in range(-border, border + 1)
    }


@pytest.mark.parametrize(("size", "border"), [(8, 1), (16, 2), (28, 3), (32, 4), (64, 4)])
def test_the_border_is_an_eighth_of_small_images_and_4_at_most(size, border):
    assert padding(size) == border


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [8, 32])
def test_a_crop_is_one_of_all_windows_of_the_padded_image(size, dtype):
    pixels = batch(5, size).to(dtype)
    before = pixels.clone()
    out = augmented(pixels, ["crop"], generator())
    assert out.dtype == dtype
    assert torch.equal(pixels, before)
    for image, crop in zip(pixels.numpy(), out.numpy(), strict=True):
        assert np.ascontiguousarray(crop).tobytes() in all_crops(image, padding(size))


def test_all_windows_are_equally_likely():
    pixels = batch(1).expand(9000, -1, -1, -1)
    windows = all_crops(pixels[0].numpy(), 1)
    found = [
        windows[np.ascontiguousarray(crop).tobytes()]
        for crop in augmented(pixels, ["crop"], generator()).numpy()
    ]
    counts = np.unique(np.array(found), axis=0, return_counts=True)[1]
    assert len(counts) == 9
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_half_of_the_images_are_flipped():
    pixels = batch(2000)
    out = augmented(pixels, ["flip"], generator())
    flipped = (out == pixels.flip(-1)).flatten(1).all(dim=1)
    kept = (out == pixels).flatten(1).all(dim=1)
    assert (flipped ^ kept).all()
    assert abs(int(flipped.sum()) - 1000) < 5 * np.sqrt(500)


def test_the_generator_alone_decides():
    pixels = batch(50)
    first = augmented(pixels, ["crop", "flip"], generator(1))
    torch.manual_seed(99)
    assert torch.equal(first, augmented(pixels, ["crop", "flip"], generator(1)))
    assert not torch.equal(first, augmented(pixels, ["crop", "flip"], generator(2)))
    source = generator(1)
    augmented(pixels, ["flip"], source)
    assert not torch.equal(
        augmented(pixels, ["flip"], source), augmented(pixels, ["flip"], generator(1))
    )


def test_no_augmentation_and_unknown_ones():
    pixels = batch(2)
    assert torch.equal(augmented(pixels, [], generator()), pixels)
    with pytest.raises(ValueError, match="unknown augmentation 'flipp': did you mean 'flip'"):
        augmented(pixels, ["flipp"], generator())


@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (2, -3), (-4, 5)])
def test_a_shift_moves_right_and_down_and_fills_with_black(offset):
    pixels = batch(3)
    before = pixels.clone()
    out = apply_query(pixels, f"shift:{offset[0]},{offset[1]}")
    assert np.array_equal(
        out.numpy(), np.stack([shifted_by_loop(image, *offset) for image in pixels.numpy()])
    )
    assert torch.equal(pixels, before)


def test_flip_mirrors_and_identity_changes_nothing():
    pixels = batch(2)
    assert np.array_equal(apply_query(pixels, "flip").numpy(), pixels.numpy()[..., ::-1])
    assert torch.equal(apply_query(pixels, "identity"), pixels)


@pytest.mark.parametrize(("names", "size"), [(DIGIT_QUERIES, 8), (PHOTO_QUERIES, 32)])
def test_the_default_queries_differ_from_each_other(names, size):
    assert check_queries(names, size) == names
    images = [apply_query(batch(1, size), name) for name in names]
    assert torch.equal(images[0], batch(1, size))
    assert all(not torch.equal(images[i], images[j]) for i in range(len(names)) for j in range(i))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the first query must be 'identity'"),
        (["flip", "identity"], "the first query must be 'identity', got"),
        (["identity", "flip", "flip"], "queries must differ"),
        (
            ["identity", "turn"],
            "query must be 'identity', 'flip' or 'shift:DX,DY' with whole numbers, got 'turn'",
        ),
        (["identity", "shift:1"], "got 'shift:1'"),
        (["identity", "shift:1.5,0"], r"got 'shift:1\.5,0'"),
        (["identity", "shift:0,-8"], "'shift:0,-8' moves an image of 8x8 pixels out of sight"),
    ],
)
def test_query_lists_that_cannot_be_asked_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        check_queries(names, 8)


def images(pixels):
    records = len(pixels)
    return Images(pixels, np.arange(records) % 2, ("a", "b"), np.zeros(records, bool))


def test_channel_statistics_are_those_of_float_arithmetic():
    pixels = batch(5000, size=3).numpy()
    records = np.flatnonzero(np.arange(5000) % 7)
    mean, std = channel_statistics(images(pixels), records)
    chosen = pixels[records].astype(np.float64) / 255
    assert np.allclose(mean, chosen.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(std, chosen.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_channel_without_contrast_has_deviation_one_and_all_of_them_are_refused():
    pixels = batch(4).numpy()
    pixels[:, 1] = 7
    mean, std = channel_statistics(images(pixels), np.arange(4))
    assert (mean[1], std[1]) == (7 / 255, 1.0)
    with pytest.raises(ValueError, match="channel 0 of 4 images is constant"):
        channel_statistics(images(pixels * 0), np.arange(4))
    with pytest.raises(ValueError, match="channel 0 of 0 images is constant"):
        channel_statistics(images(pixels), np.arange(0))


def test_standardised_images_have_mean_0_and_deviation_1():
    pixels = batch(100)
    mean, std = channel_statistics(images(pixels.numpy()), np.arange(100))
    out = standardize(pixels, mean, std)
    assert out.dtype == torch.float32
    assert torch.allclose(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("query", ["identity", "flip", "shift:1,0", "shift:-2,3", "shift:0,-7"])
def test_arrays_are_standardised_and_moved_as_tensors_are_bit_for_bit(query):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8)).astype(np.uint8)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    expected = standardize(apply_query(torch.from_numpy(pixels), query), mean, std).numpy()
    assert (standardized_array(queried_array(pixels, query), mean, std) == expected).all()
    rows = np.random.default_rng(1).normal(5, 9, (6, 3)).astype(np.float32)
    expected = standardize(torch.from_numpy(rows), mean, std).numpy()
    assert (standardized_array(rows, mean, std) == expected).all()
