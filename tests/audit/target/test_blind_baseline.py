"""The guess at membership without the model: flagged splits, silent splits, and its power."""

import numpy as np
import pytest

from bitleak.audit.target.blind_baseline import blind_baseline
from bitleak.audit.target.image_features import features_of
from bitleak.data.stored_files import StoredFiles, files_of, places

RECORDS = 2400


@pytest.fixture(scope="module")
def records():
    """Images whose brightness differs, with classes, formats and places in a file."""
    rng = np.random.default_rng(0)
    brightness = rng.normal(120, 25, (RECORDS, 1, 1, 1))
    images = (
        brightness + rng.normal(0, 10, (RECORDS, 3, 1, 1)) + rng.normal(0, 20, (RECORDS, 3, 6, 6))
    )
    labels = rng.integers(0, 10, RECORDS)
    formats = np.where(rng.random(RECORDS) < 0.5, "PNG", "JPEG")
    stored = StoredFiles(
        sizes=rng.integers(900, 1100, RECORDS), formats=formats, order=np.arange(RECORDS) / RECORDS
    )
    pixels = images.clip(0, 255).astype(np.uint8)
    features = features_of(pixels, labels, np.arange(RECORDS), stored, 0)
    return pixels, labels, formats, features


def judged(features, member, seed=0):
    return blind_baseline(features, member, fprs=(0.001, 0.01), seed=seed)


@pytest.mark.parametrize("split", ["class", "brightness", "file format", "date"])
def test_a_split_by_anything_but_chance_is_flagged(records, split):
    pixels, labels, formats, features = records
    rng = np.random.default_rng(1)
    bright = pixels.mean(axis=(1, 2, 3))
    chances = {
        "class": np.where(labels < 5, 0.7, 0.3),
        "brightness": np.where(bright > np.median(bright), 0.7, 0.3),
        "file format": np.where(formats == "PNG", 0.7, 0.3),
        "date": np.where(np.arange(RECORDS) < RECORDS // 2, 0.7, 0.3),
    }
    found = judged(features, rng.random(RECORDS) < chances[split])
    # Two halves with 70 and 30 % members: AUC 0.7.
    assert found.separable
    assert found.auc == pytest.approx(0.7, abs=0.06)
    assert "members and others differ by themselves" in found.sentence


def test_random_splits_are_silent(records):
    rng = np.random.default_rng(2)
    found = [judged(records[3], rng.random(RECORDS) < 0.5, seed) for seed in range(6)]
    assert sum(result.separable for result in found) == 0
    assert np.mean([result.auc for result in found]) == pytest.approx(0.51, abs=0.03)
    assert "nothing tells members from others" in found[0].sentence


def test_a_planted_shift_is_found_as_often_as_the_power_says(records):
    pixels, labels, _, _ = records
    rng, found, runs = np.random.default_rng(3), 0, 8
    spread = pixels.mean(axis=(1, 2, 3)).std()
    for seed in range(runs):
        member = rng.random(RECORDS) < 0.5
        moved = (pixels + 0.3 * spread * member[:, None, None, None]).clip(0, 255)
        features = features_of(moved.astype(np.uint8), labels, np.arange(RECORDS), StoredFiles(), 0)
        result = judged(features, member, seed)
        found += result.is_significant
    assert found >= 0.8 * runs
    assert result.power >= 0.8
    assert "would be found in" in result.sentence


def test_a_shift_that_only_the_linear_guess_finds_is_significant(records):
    pixels, labels, _, _ = records
    few = np.arange(900)
    member = np.random.default_rng(4).random(900) < 0.5
    spread = pixels[few].mean(axis=(1, 2, 3)).std()
    moved = pixels[few] + 0.45 * spread * member[:, None, None, None]
    features = features_of(moved.clip(0, 255).astype(np.uint8), labels, few, StoredFiles(), 0)
    found = judged(features, member)
    assert found.is_significant
    assert found.classifier == "linear"
    assert found.p_value == 0.001
    assert found.tested == (int(member.sum()), int((~member).sum()))


def test_the_place_in_a_file_starts_over_in_the_test_part():
    held_out = np.arange(10) >= 6
    assert places(held_out).tolist() == [*(np.arange(6) / 6), *(np.arange(4) / 4)]


def test_sizes_and_formats_are_those_of_the_files(tmp_path):
    contents = {"a.png": b"\x89PNG....", "b.jpg": b"\xff\xd8\xff..", "c.png": b"BM"}
    items = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        items.append((tmp_path / name, name))
    files = files_of(items)
    assert files.sizes.tolist() == [8, 5, 2]
    assert files.formats.tolist() == ["PNG", "JPEG", "BMP"]
    assert [name.rsplit("/", 1)[1] for name in files.names] == list(contents)
    assert files_of([(b"\x89PNG", "row 0")]).names is None
