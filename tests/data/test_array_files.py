import pickle

import numpy as np
import pytest

from bitleak.core.errors import DataError
from bitleak.data.array_files import Arrays

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 5), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def load(tmp_path):
    """Loads a file made of these arrays."""

    def load(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return Arrays(str(tmp_path / "data.npz")).load(None)

    return load


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (PIXELS, PIXELS),
        (PIXELS.transpose(0, 2, 3, 1), PIXELS),
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS[:, :1], PIXELS[:, :1]),
        (PIXELS[:, 0, :, :, None], PIXELS[:, :1]),
    ],
)
def test_every_layout_gives_channels_first(load, pixels, expected):
    images = load(pixels=pixels, labels=LABELS)
    assert np.array_equal(images.pixels, expected)
    assert images.pixels.flags.c_contiguous
    assert not images.held_out.any()


def test_test_arrays_come_last_and_are_held_out(load):
    images = load(
        pixels=PIXELS[:4], labels=LABELS[:4].astype(np.uint8), test_pixels=PIXELS[4:], test_labels=LABELS[4:],
        class_names=np.array(["cat", "dog", "owl", "yak"]),
    )  # fmt: skip
    assert np.array_equal(images.pixels, PIXELS)
    assert images.labels.tolist() == LABELS.tolist()
    assert images.labels.dtype == np.int64
    assert images.held_out.tolist() == [False] * 4 + [True] * 2
    assert images.class_names == ("cat", "dog", "owl", "yak")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": None}, "array 'pixels' is missing; the arrays: labels"),
        ({"labels": None}, "array 'labels' is missing; the arrays: pixels"),
        ({"pixel": PIXELS}, "unknown array 'pixel'; known: pixels, labels"),
        ({"pixels": PIXELS / 255}, "pixels must be uint8 from 0 to 255, got float64"),
        ({"pixels": PIXELS[:, :, :4]}, r"with 1 or 3 channels and square images, got \(6, 3, 4, 5\)"),
        ({"pixels": PIXELS[:, :2]}, r"with 1 or 3 channels and square images, got \(6, 2, 5, 5\)"),
        ({"pixels": PIXELS[:, 0, :4]}, r"with 1 or 3 channels and square images, got \(6, 4, 5\)"),
        ({"pixels": PIXELS[:, 0, 0]}, r"with 1 or 3 channels and square images, got \(6, 5\)"),
        ({"pixels": PIXELS[:, :, :3, :3]}, r"\(6, 3, 3, 3\) can be read with channels first and with channels last"),
        ({"labels": LABELS[:5]}, "6 pixels but 5 labels"),
        ({"labels": LABELS + 0.5}, r"labels, row 0: label must be an integer, got 0\.5"),
        ({"labels": np.array([0, 1, np.nan, 0, 1, 2])}, "labels, row 2: label must be an integer, got nan"),
        ({"labels": np.eye(3)[LABELS]}, r"labels of shape \(6, 3\) are several labels an image"),
        ({"labels": LABELS - 1}, r"data.npz, labels, row 0: label must be from 0 to 1, got -1"),
        ({"labels": LABELS * 0}, "at least 2 classes are needed, all are of '0'"),
        ({"labels": LABELS[:0], "pixels": PIXELS[:0]}, "no images to train on"),
        ({"test_pixels": PIXELS}, "test_pixels and test_labels go together"),
        (
            {"test_pixels": PIXELS[:, :1], "test_labels": LABELS},
            r"test_pixels must be like pixels, \(3, 5, 5\), got \(1, 5, 5\)",
        ),
        ({"test_pixels": PIXELS[:5], "test_labels": LABELS}, "5 test_pixels but 6 test_labels"),
        (
            {"test_pixels": PIXELS, "test_labels": LABELS + 1, "class_names": np.array(["a", "b", "c"])},
            "data.npz, test_labels, row 2: label must be from 0 to 2, got 3",
        ),
        ({"class_names": np.array(["a", "b"])}, "data.npz, labels, row 2: label must be from 0 to 1, got 2"),
        ({"class_names": np.arange(3)}, r"class_names must be text \[classes\], got int64 \(3,\)"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_meant_are_refused(load, change, message):
    arrays = {"pixels": PIXELS, "labels": LABELS, **change}
    with pytest.raises(DataError, match=message):
        load(**{name: array for name, array in arrays.items() if array is not None})


def test_a_pickle_inside_is_never_loaded(load, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    with pytest.raises(DataError, match="pickles are never loaded"):
        load(pixels=PIXELS, labels=np.array([Trap()] * 6, object))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="pickles are never loaded"):
        Arrays(str(tmp_path / "bare.npz")).load(None)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz: not an \.npz file"):
        Arrays(str(tmp_path / "data.npz")).describe(None)


def test_a_single_array_is_not_an_archive(tmp_path):
    np.save(tmp_path / "data.npy", PIXELS)
    with pytest.raises(DataError, match=r"data\.npy: not an \.npz file"):
        Arrays(str(tmp_path / "data.npy")).load(None)


def test_a_root_is_a_file_or_the_folder_of_one_with_the_same_name(tmp_path):
    np.savez(tmp_path / "data.npz", pixels=PIXELS, labels=LABELS)
    description = Arrays("far/away/data.npz").describe(tmp_path)
    assert (description.records, description.classes, description.channels, description.size) == (
        6,
        3,
        3,
        5,
    )
    assert Arrays("other.npz").describe(tmp_path / "data.npz") == description
    with pytest.raises(DataError, match=r"no such file or folder: .*other\.npz"):
        Arrays("other.npz").describe(tmp_path)
    np.savez(tmp_path / "data.npz", pixels=PIXELS, labels=LABELS[::-1])
    assert Arrays("data.npz").describe(tmp_path).fingerprint != description.fingerprint


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match=r"path must be an \.npz file"):
        Arrays("")
