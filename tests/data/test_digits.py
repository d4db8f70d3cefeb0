from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bitleak.core.errors import DataError
from bitleak.core.types import Images
from bitleak.data import checked_images
from bitleak.data.digits import Digits


def test_digits_are_those_of_scikit_learn_scaled_to_255():
    images = Digits().load(None)
    source = load_digits()
    assert images.pixels.shape == (1797, 1, 8, 8)
    assert np.abs(images.pixels[:, 0] / 255 * 16 - source.images).max() <= 8 / 255 + 1e-12
    assert (images.pixels.min(), images.pixels.max()) == (0, 255)
    assert np.array_equal(images.labels, source.target)
    assert not images.held_out.any()


def test_a_folder_for_the_embedded_set_is_an_error():
    for call in (Digits().load, Digits().describe):
        with pytest.raises(DataError, match="reads no folder, got elsewhere"):
            call(Path("elsewhere"))


def images(**change):
    fields = {
        "pixels": np.zeros((4, 3, 5, 5), np.uint8),
        "labels": np.array([0, 1, 0, 1]),
        "class_names": ("a", "b"),
        "held_out": np.zeros(4, bool),
    }
    return Images(**{**fields, **change})


def test_right_images_pass_the_check_as_they_are():
    right = images()
    assert checked_images(right, "here") is right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pixels": np.zeros((4, 2, 5, 5), np.uint8)},
            r"with 1 or 3 channels, got uint8 \(4, 2, 5, 5\)",
        ),
        ({"pixels": np.zeros((4, 3, 5, 6), np.uint8)}, "must be square, got 5x6"),
        ({"labels": np.array([0, 1, 2, 1])}, "here, row 2: label must be from 0 to 1, got 2"),
        (
            {"labels": np.array([0, 0, 1, 1]), "held_out": np.arange(4) > 1},
            "here: .* all are of 'a'",
        ),
        ({"held_out": np.ones(4, bool)}, "here: no images to train on"),
    ],
)
def test_wrong_images_are_refused_by_name(change, message):
    with pytest.raises(DataError, match=message):
        checked_images(images(**change), "here")


def test_a_loader_may_say_where_a_record_lies():
    with pytest.raises(DataError, match="file 7: label must be"):
        checked_images(images(labels=np.array([0, 9, 0, 1])), "here", lambda row: f"file {row + 6}")
