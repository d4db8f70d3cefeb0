"""Copies among images: exact and near ones are found and counted, look-alikes are not."""

import io

import numpy as np
import pytest
from PIL import Image

from bitleak.audit.audit_warnings import copy_warnings
from bitleak.data import image_copies as module
from bitleak.data.digits import Digits
from bitleak.data.image_copies import FARTHEST, find_copies


def scenes(count, size=32, seed=0):
    """Smooth random pictures, as unlike each other as photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    resized = [
        np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC))
        for one in coarse
    ]
    return np.stack(resized).transpose(0, 3, 1, 2)


def compressed(picture, quality):
    sink = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink)).transpose(2, 0, 1)


def found_in(pixels, labels=None, held_out=0):
    labels = np.zeros(len(pixels), np.int64) if labels is None else labels
    index = np.arange(len(pixels))
    return find_copies(
        pixels, labels, index[: len(index) - held_out], index[len(index) - held_out :]
    )


def standardised(pixels):
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    return (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)


def test_planted_copies_are_counted_by_kind():
    pictures = scenes(300)
    near = np.stack(
        [compressed(pictures[0], 90), np.clip(pictures[1] * 0.8 + 20, 0, 255).astype(np.uint8)]
    )
    found = found_in(np.concatenate([pictures, pictures[2:5], near]))
    assert (found.exact, found.near, found.held_out) == (6, 4, 0)
    assert found.groups[300:303].tolist() == found.groups[2:5].tolist()
    assert found.groups[303:].tolist() == found.groups[:2].tolist()
    assert len(np.unique(found.groups)) == 300


def test_every_image_twice_is_every_record_a_copy():
    pictures = scenes(50)
    found = found_in(np.concatenate([pictures, pictures]))
    assert (found.exact, found.near) == (100, 0)


def test_near_copies_of_every_image_do_not_hide_each_other():
    pictures = scenes(120)
    found = found_in(
        np.concatenate([pictures, np.stack([compressed(one, 85) for one in pictures])])
    )
    assert found.exact == 0
    assert found.near == 240


def test_pairs_are_those_of_a_search_over_all_pairs():
    rng = np.random.default_rng(1)
    pictures = scenes(150, size=12)
    noisy = [
        pictures[i] + rng.normal(0, sigma, pictures[i].shape)
        for i, sigma in enumerate(np.linspace(1, 40, 60))
    ]
    pixels = np.concatenate([pictures, np.clip(np.rint(noisy), 0, 255).astype(np.uint8)])
    found = found_in(pixels)

    flat = standardised(pixels)
    apart = np.sqrt(np.maximum(0, 2 - 2 * flat @ flat.T / flat.shape[1]))
    np.fill_diagonal(apart, np.inf)
    expected = int((apart.min(axis=1) <= found.distance).sum())
    assert 20 < expected < 118  # some of the noisy ones, not all of them
    assert found.near == expected


def test_held_out_copies_and_contradicting_labels_are_counted():
    pictures = scenes(40)
    pixels = np.concatenate([pictures[:30], pictures[:2], pictures[30:], pictures[5:8]])
    labels = np.arange(len(pixels)) % 3
    labels[30], labels[31] = labels[0], labels[1] + 1
    found = found_in(pixels, labels, held_out=13)
    assert (found.exact, found.held_out, found.contradicting) == (4, 3, 2)


@pytest.mark.parametrize("value", [0, 255])
def test_images_of_one_colour_are_no_near_copies(value):
    flat = np.full((20, 1, 8, 8), value, np.uint8)
    flat[np.arange(20), 0, 0, np.arange(20) % 8] ^= 1 + np.arange(20, dtype=np.uint8) // 8
    found = found_in(flat)
    assert (found.exact, found.near) == (0, 0)


def test_handwritten_digits_that_look_alike_are_no_copies():
    images = Digits().load(None)
    found = found_in(images.pixels, images.labels)
    assert (found.exact, found.near) == (0, 0)
    assert found.distance < FARTHEST  # a fixed distance would call a few hundred of them copies


def test_no_images_and_single_images_have_no_copies():
    assert found_in(scenes(1)).groups.tolist() == [0]
    assert found_in(scenes(2), held_out=1).held_out == 0


def test_block_means_never_make_a_distance_larger():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 7, 7), dtype=np.uint8)
    flat, means = standardised(pixels), module._projected(module._block_means(pixels))
    for i in range(30):
        apart = np.sqrt(((flat - flat[i]) ** 2).mean(1))
        assert (np.linalg.norm(means - means[i], axis=1) <= apart + 1e-5).all()


def test_copies_are_told_in_sentences():
    counts = {"exact": 1200, "near": 3, "held_out": 0, "contradicting": 7, "distance": 0.19}
    first, second = copy_warnings(counts, records=4000, held_out=100)
    assert first.startswith(
        "Of 4,000 audited records 1,200 have an exact copy among the others and 3 a near copy"
    )
    assert "at most 0.19 apart" in first
    assert second == "7 audited records have an exact copy with another label."
    assert copy_warnings(dict.fromkeys(counts, 0), records=10, held_out=0) == ()
