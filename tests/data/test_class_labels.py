"""Columns, labels and layouts of data sets as people bring them."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitleak.core.errors import DataError
from bitleak.data.array_files import Arrays
from bitleak.data.class_labels import classes_of, plain_labels
from bitleak.data.hub import Hub


def where(row):
    return f"row {row}"


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([2, 0, 1, 2], [2, 0, 1, 2], ("0", "1", "2")),
        ([0, 255, 255], [0, 1, 1], ("0", "255")),
        ([1, 3, 2, 1], [0, 2, 1, 0], ("1", "2", "3")),
        ([2**40, 7, 2**40], [1, 0, 1], ("7", str(2**40))),
        ([0, 2, 2], [0, 2, 2], ("0", "1", "2")),
        ([1.0, 0.0], [1, 0], ("0", "1")),
        ([True, False], [1, 0], ("false", "true")),
        (["owl", "cat", "owl"], [1, 0, 1], ("cat", "owl")),
        ([[0], [1]], [0, 1], ("0", "1")),
    ],
)
def test_stored_labels_become_class_indices(values, labels, names):
    classes = classes_of([plain_labels(np.array(values), where)], [where])
    assert classes.labels[0].tolist() == labels
    assert classes.names == names


def test_both_parts_are_numbered_together():
    classes = classes_of([np.array([10, 30]), np.array([20, 10])], [where, where])
    assert [part.tolist() for part in classes.labels] == [[0, 2], [1, 0]]


def test_numbers_of_the_images_are_no_classes():
    with pytest.raises(DataError, match="40 different values for 40 images: these are no classes"):
        classes_of([np.arange(40)], [where])


def table(folder, make, **columns):
    count = len(next(iter(columns.values())))
    images = [{"bytes": make.encode(image), "path": None} for image in make.photos(count)]
    pq.write_table(pa.table({"image": images, **columns}), folder / "train.parquet")
    return Hub(str(folder))


def test_text_labels_beside_integers_are_asked_about_and_read_by_name(tmp_path, make):
    columns = {"image_id": [0, 1, 2, 3], "label": ["dog", "cat", "cat", "dog"]}
    with pytest.raises(
        DataError, match=r"'label' holds string, and integers are in 'image_id'; .*label: label"
    ):
        table(tmp_path, make, **columns).load(None)
    hub = replace(table(tmp_path, make, **columns), label="label")
    images = hub.load(None)
    assert images.labels.tolist() == [1, 0, 0, 1]
    assert images.class_names == ("cat", "dog")
    assert hub.describe(None).counts == (("cat", 2), ("dog", 2))
    assert hub.describe(None).notes[0] == "images from column 'image', labels from column 'label'"


def test_text_labels_alone_are_classes_and_an_index_of_pandas_is_no_column(tmp_path, make):
    hub = table(tmp_path, make, label=["dog", "cat", "cat", "dog"])
    file = tmp_path / "train.parquet"
    stored = pq.read_table(file)
    index = json.dumps({"index_columns": ["__index_level_0__"]})
    stored = stored.append_column("__index_level_0__", pa.array([3, 1, 0, 2]))
    pq.write_table(stored.replace_schema_metadata({"pandas": index}), file)
    assert hub.load(None).class_names == ("cat", "dog")


def test_integers_that_are_not_called_like_labels_are_not_guessed(tmp_path, make):
    hub = table(tmp_path, make, image_id=[0, 1], width=[8, 9])
    with pytest.raises(
        DataError, match=r"no label column, .*; name one as 'label': image_id, width"
    ):
        hub.load(None)


def test_a_list_column_holds_several_labels_an_image(tmp_path, make):
    with pytest.raises(DataError, match="column 'labels' holds several labels an image"):
        table(tmp_path, make, labels=[[0], [0, 1]]).load(None)


@pytest.mark.parametrize("layout", ["default/{}/0000", "data/{}/part-00000-of-00001", "{}/0000"])
def test_folders_of_splits_hold_parquet(tmp_path, make, layout):
    for split, count in {"train": 4, "test": 2}.items():
        make.write_parquet(
            tmp_path / f"{layout.format(split)}.parquet", make.photos(count), [0, 1] * (count // 2)
        )
    description = Hub(str(tmp_path)).describe(None)
    assert (description.records, description.held_out) == (6, 2)


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (("train_images", "train_labels", "test_images", "test_labels"), ()),
        (("x_train", "y_train", "x_test", "y_test"), ()),
    ],
)
def test_names_of_medmnist_and_keras_are_known(tmp_path, make, names, notes):
    values = (
        make.photos(4),
        np.array([[0], [1], [0], [1]]),
        make.photos(2, seed=1),
        np.array([[1], [0]]),
    )
    np.savez(tmp_path / "d.npz", **dict(zip(names, values, strict=True)))
    images = Arrays(str(tmp_path / "d.npz")).load(None)
    assert images.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert images.held_out.sum() == 2
    assert Arrays(str(tmp_path / "d.npz")).describe(None).notes == notes


def folder_of(tmp_path, make, name, content):
    for kind in ("ant", "bee"):
        (tmp_path / "train" / kind).mkdir(parents=True)
        (tmp_path / "train" / kind / "a.png").write_bytes(make.encode(make.photos(1)[0]))
    (tmp_path / "train" / "ant" / name).write_bytes(content)
    return Hub(str(tmp_path))


def test_jfif_is_read_and_other_files_are_counted(tmp_path, make):
    hub = folder_of(tmp_path, make, "b.JFIF", make.encode(make.photos(1)[0], kind="JPEG"))
    (tmp_path / "train" / "ant" / "c.avif").write_bytes(b"?")
    assert hub.describe(None).counts == (("ant", 2), ("bee", 1))
    assert hub.describe(None).notes == ("train: 1 files or folders are left out: 1 .avif",)


def test_the_orientation_of_exif_is_applied(tmp_path, make):
    pixels, exif = make.photos(1)[0], Image.Exif()
    exif[0x112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    hub = folder_of(tmp_path / "set", make, "b.png", (tmp_path / "x.png").read_bytes())
    assert np.array_equal(hub.load(None).pixels[1], np.rot90(pixels, -1).transpose(2, 0, 1))


def deep():
    """A PNG of 16 bits per channel in colour, which Pillow would cut to 8."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(36)) * 6)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_sixteen_bits_per_channel_are_refused_in_colour_too(tmp_path, make):
    with pytest.raises(DataError, match=r"b\.png: image must have 8 bits per channel, got 16"):
        folder_of(tmp_path, make, "b.png", deep()).load(None)


def test_readers_of_pillow_that_start_programs_are_closed(tmp_path, make):
    with pytest.raises(DataError, match="cannot be decoded: cannot identify image file"):
        folder_of(
            tmp_path,
            make,
            "b.png",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\n",
        ).load(None)


def test_a_named_pipe_is_no_image(tmp_path, make):
    hub = folder_of(tmp_path, make, "b.png", b"")
    (tmp_path / "train" / "ant" / "b.png").unlink()
    os.mkfifo(tmp_path / "train" / "ant" / "b.png")
    with pytest.raises(DataError, match="not a regular file"):
        hub.describe(None)


@pytest.mark.parametrize("path", ["{}/secret.png", "../secret.png", "link.png"])
def test_images_outside_the_folder_of_the_data_are_not_read(tmp_path, make, path):
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.png").write_bytes(make.encode(make.photos(1)[0]))
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": None, "path": path.format(tmp_path)}] * 2, struct)
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "set" / "train.parquet")
    with pytest.raises(
        DataError, match=r"not below the data's folder|links out of the data's folder"
    ):
        Hub(str(tmp_path / "set")).load(None)


def test_a_number_of_classes_keeps_labels_as_they_are_stored(tmp_path, make):
    np.savez(tmp_path / "d.npz", pixels=make.photos(4), labels=np.array([0, 255, 255, 0]))
    make.write_parquet(
        tmp_path / "set" / "train.parquet", make.photos(4), [0, 255, 255, 0], features=False
    )
    for kind, path in ((Arrays, tmp_path / "d.npz"), (Hub, tmp_path / "set")):
        images = kind(str(path), classes=256).load(None)
        assert images.labels.tolist() == [0, 255, 255, 0]
        assert images.class_names == tuple(map(str, range(256)))
        assert kind(str(path)).describe(None).sorted_labels
        assert not kind(str(path), classes=256).describe(None).sorted_labels
        with pytest.raises(DataError, match="row 1: label must be from 0 to 254, got 255"):
            kind(str(path), classes=255).describe(None)
        with pytest.raises(ValueError, match="classes must be an integer from 2 to 100000, got 1"):
            kind(str(path), classes=1)


def test_a_number_of_classes_must_be_that_of_the_names(tmp_path, make):
    hub = table(tmp_path, make, label=["dog", "cat", "cat", "dog"])
    with pytest.raises(
        DataError, match="with a number of classes, labels must be integers, got 'dog'"
    ):
        Hub(hub.path, classes=2).load(None)
    make.write_parquet(tmp_path / "named" / "train.parquet", make.photos(3), [2, 0, 1])
    assert Hub(str(tmp_path / "named"), classes=3).describe(None).classes == 3
    with pytest.raises(DataError, match="classes: 4 was given, but the data set names 3 classes"):
        Hub(str(tmp_path / "named"), classes=4).describe(None)


def test_text_that_is_missing_or_bytes_or_alike(tmp_path, make):
    with pytest.raises(DataError, match=r"row 1: label is missing \(an empty text\)"):
        plain_labels(np.array(["cat", " ", "dog"]), where)
    assert plain_labels(np.array([b"cat", "\u00fc".encode()]), where).tolist() == ["cat", "\u00fc"]
    with pytest.raises(DataError, match="labels that are bytes must be UTF-8 text"):
        plain_labels(np.array([b"\xff"]), where)
    note = classes_of([np.array(["cat", "Cat ", "dog", "dog"])], [where]).note
    assert note.endswith("classes whose names differ only by capitals or spaces: 'Cat ', 'cat'")
    assert "differ" not in classes_of([np.array(["cat", "cats"])], [where]).note


def test_views_are_read_and_other_types_are_named(tmp_path, make):
    images = pa.array([make.encode(photo) for photo in make.photos(2)], pa.binary())
    columns = {
        "img": images.cast(pa.binary_view()),
        "label": pa.array(["b", "a"]).cast(pa.string_view()),
    }
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    assert Hub(str(tmp_path)).load(None).labels.tolist() == [1, 0]
    columns = {"img": images, "label": pa.array([1, 0]).cast(pa.decimal128(20, 0))}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(
        DataError,
        match=r"no label column, which holds integers, .*: img \(binary\), label \(decimal128",
    ):
        Hub(str(tmp_path)).load(None)


def test_pixels_that_were_not_scaled_are_said(tmp_path, make):
    for pixels, said in ((make.photos(4) // 128, True), (make.photos(4) // 64, False)):
        np.savez(tmp_path / "d.npz", pixels=pixels, labels=np.array([0, 1, 0, 1]))
        notes = Arrays(str(tmp_path / "d.npz")).describe(None).notes
        assert any(note.startswith("No pixel is above 1") for note in notes) is said
