import numpy as np
import pytest

from bitleak.core.errors import DataError
from bitleak.data.tiny_imagenet import TinyImageNet


@pytest.fixture
def archive(tmp_path, make):
    """Three classes with two training images each, the second of n03 greyscale; three validation images."""
    root = tmp_path / "tiny-imagenet-200"
    photos = make.photos(9, size=8)
    for number, wnid in enumerate(["n03", "n01", "n02"]):
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in range(2):
            image = photos[2 * number + i]
            (folder / f"{wnid}_{i}.JPEG").write_bytes(
                make.encode(image[:, :, 0] if (wnid, i) == ("n03", 1) else image)
            )
    (root / "val" / "images").mkdir(parents=True)
    for i in range(3):
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(make.encode(photos[6 + i]))
    lines = [
        "val_2.JPEG\tn01\t0\t0\t7\t7",
        "val_0.JPEG\tn03\t0\t0\t7\t7",
        "val_1.JPEG\tn02\t0\t0\t7\t7",
    ]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("n03\nn01\nn02\n")
    (root / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tant\n")
    return root


def test_classes_are_sorted_and_validation_is_held_out(archive, make):
    images = TinyImageNet(str(archive)).load(None)
    photos = make.photos(9, size=8).transpose(0, 3, 1, 2)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 1, 0]
    assert images.held_out.tolist() == [False] * 6 + [True] * 3
    assert images.class_names == ("goldfish, Carassius auratus", "ant", "n03")
    assert np.array_equal(images.pixels[:5], photos[[2, 3, 4, 5, 0]])
    assert np.array_equal(images.pixels[5], np.repeat(photos[1, :1], 3, axis=0))
    assert np.array_equal(images.pixels[6:], photos[6:])


def test_the_description_agrees_and_its_fingerprint_follows_the_content(archive):
    data_set = TinyImageNet(str(archive))
    description = data_set.describe(None)
    assert (description.records, description.held_out, description.classes) == (9, 3, 3)
    assert (description.channels, description.size) == (3, 8)
    assert TinyImageNet("elsewhere").describe(archive) == description
    annotations = archive / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text().replace("val_0.JPEG\tn03", "val_0.JPEG\tn02"))
    assert data_set.describe(None).fingerprint != description.fingerprint


def test_without_words_a_class_is_named_by_its_wnid(archive):
    (archive / "words.txt").unlink()
    assert TinyImageNet(str(archive)).load(None).class_names == ("n01", "n02", "n03")


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: (root / "wnids.txt").unlink(), r"no such file or folder: .*wnids\.txt"),
        (
            lambda root: (root / "wnids.txt").write_bytes(b"\xff\xfe\xff"),
            r"wnids\.txt: cannot be read as text",
        ),
        (lambda root: append(root / "wnids.txt", "n04\n"), r"no such file or folder: .*n04/images"),
        (
            lambda root: (root / "train/n01/images/n01_0.JPEG").write_bytes(b"x"),
            r"n01_0\.JPEG: image cannot be decoded",
        ),
        (
            lambda root: [f.unlink() for f in (root / "train/n02/images").iterdir()],
            r"n02/images: no images",
        ),
        (
            lambda root: append(root / "val/val_annotations.txt", "val_9.JPEG\tn01\t0\t0\t7\t7\n"),
            r"val_annotations\.txt, line 4: no file .*val_9\.JPEG",
        ),
        (
            lambda root: append(root / "val/val_annotations.txt", "val_0.JPEG\tn77\n"),
            r"val_annotations\.txt, line 4: class 'n77' of 'val_0.JPEG' is not in wnids\.txt",
        ),
        (
            lambda root: (root / "val/images/val_5.JPEG").write_bytes(b"x"),
            r"val_5\.JPEG: no line for this image in .*val_annotations\.txt",
        ),
    ],
)
def test_a_damaged_archive_is_an_error_that_names_the_file(archive, harm, message):
    harm(archive)
    with pytest.raises(DataError, match=message):
        TinyImageNet(str(archive)).load(None)


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match="path must be the unpacked folder"):
        TinyImageNet("")
