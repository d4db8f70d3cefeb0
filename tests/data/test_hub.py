import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitleak.core.errors import DataError
from bitleak.data.hub import Hub

REAL = Path(
    os.environ.get("BITLEAK_TEST_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")
)

needs_cifar = pytest.mark.skipif(
    not (REAL / "cifar10").is_dir(),
    reason="no real CIFAR here: set BITLEAK_TEST_DATA to the folder that holds cifar10/",
)


@pytest.fixture
def folder(tmp_path, make):
    """Two training shards and a test shard with three classes, 5 + 4 and 3 records."""
    photos = make.photos(12)
    make.write_parquet(tmp_path / "train-00000-of-00002.parquet", photos[:5], [0, 1, 2, 0, 1])
    make.write_parquet(tmp_path / "train-00001-of-00002.parquet", photos[5:9], [2, 0, 1, 2])
    make.write_parquet(tmp_path / "test-00000-of-00001.parquet", photos[9:], [2, 1, 0])
    return tmp_path


def rewrite(folder, make, images=None, labels=(2, 0, 1, 2), **options):
    """Another second training shard."""
    images = list(make.photos(4, seed=1)) if images is None else images
    make.write_parquet(folder / "train-00001-of-00002.parquet", images, list(labels), **options)


def test_parquet_gives_the_training_rows_in_order_and_then_the_test_rows(folder, make):
    images = Hub(str(folder)).load(None)
    assert np.array_equal(images.pixels, make.photos(12).transpose(0, 3, 1, 2))
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 1, 0]
    assert images.held_out.tolist() == [False] * 9 + [True] * 3
    assert images.class_names == ("cat", "dog", "owl")


@pytest.mark.parametrize("inner", ["data", "plain_text"])
def test_parquet_may_lie_one_folder_below(folder, inner):
    (folder / inner).mkdir()
    for file in folder.glob("*.parquet"):
        file.rename(folder / inner / file.name)
    assert len(Hub(str(folder)).load(None).labels) == 12


def test_several_folders_of_parquet_are_an_error_that_lists_them(tmp_path, make):
    for name in ("small", "large"):
        make.write_parquet(tmp_path / name / "train.parquet", make.photos(2), [0, 1])
    with pytest.raises(
        DataError, match="several subfolders hold Parquet files, give one of them: large, small"
    ):
        Hub(str(tmp_path)).load(None)


def test_a_root_replaces_the_path(folder):
    assert Hub("someone/something", revision="v1").describe(folder) == Hub(str(folder)).describe(
        None
    )


def test_the_only_class_label_is_found_beside_other_integers(tmp_path, make):
    make.write_parquet(
        tmp_path / "train.parquet",
        make.photos(3),
        [2, 0, 1],
        label="fine_label",
        extra={"id": [7, 8, 9]},
    )
    assert Hub(str(tmp_path)).load(None).labels.tolist() == [2, 0, 1]


def test_two_class_labels_are_an_error_until_one_is_named(tmp_path, make):
    extra = {"coarse_label": [1, 0, 0]}
    make.write_parquet(
        tmp_path / "train.parquet", make.photos(3), [2, 0, 1], label="fine_label", extra=extra
    )
    with pytest.raises(
        DataError,
        match="several label columns, name one of them as 'label': fine_label, coarse_label",
    ):
        Hub(str(tmp_path)).describe(None)
    images = Hub(str(tmp_path), label="coarse_label").load(None)
    assert images.labels.tolist() == [1, 0, 0]
    assert images.class_names == ("pet", "bird")


def test_without_features_integers_are_labels_and_numbers_are_names(tmp_path, make):
    make.write_parquet(tmp_path / "train.parquet", make.photos(3), [2, 0, 2], features=False)
    assert Hub(str(tmp_path)).load(None).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "kind"}, "no column 'kind' for the label; the columns: img, label, note"),
        ({"image": "photo"}, "no column 'photo' for the image; the columns: img, label, note"),
        (
            {"label": "img"},
            "label column 'img' must hold integers, text or truth values; columns that do: label, note",
        ),
        (
            {"image": "note"},
            r"image column 'note' must hold encoded images \(bytes\); columns that do: img",
        ),
        ({"train": "training"}, "no split 'training'; the splits: train"),
        ({"test": "test"}, "no split 'test'; the splits: train"),
    ],
)
def test_a_named_column_or_split_that_is_not_there_is_an_error(tmp_path, make, options, message):
    make.write_parquet(
        tmp_path / "train.parquet", make.photos(3), [2, 0, 1], extra={"note": ["a", "b", "c"]}
    )
    with pytest.raises(DataError, match=message):
        Hub(str(tmp_path), **options).describe(None)


@pytest.mark.parametrize("split", ["validation", "valid", "val"])
def test_a_validation_split_is_held_out_where_test_labels_are_secret(folder, make, split):
    make.write_parquet(folder / "test-00000-of-00001.parquet", make.photos(2), [-1, -1])
    make.write_parquet(folder / f"{split}.parquet", make.photos(4), [0, 1, 2, 0])
    assert Hub(str(folder)).describe(None).held_out == 4


def test_without_a_second_split_nothing_is_held_out(folder):
    (folder / "test-00000-of-00001.parquet").unlink()
    description = Hub(str(folder)).describe(None)
    assert (description.records, description.held_out) == (9, 0)


def test_a_broken_image_is_named_by_its_file_and_row(folder, make):
    images = list(make.photos(4))
    images[2] = make.encode(images[2])[:-30]
    rewrite(folder, make, images)
    with pytest.raises(
        DataError, match=r"train-00001-of-00002.parquet, row 2: image cannot be decoded"
    ):
        Hub(str(folder)).load(None)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no image", "row 3: image cannot be decoded"),
        (b"", "row 3: image cannot be decoded"),
        (None, "row 3: image is missing"),
        (np.zeros((6, 5, 3), np.uint8), r"row 3: image must be square, got 6x5 \(height x width\)"),
        (np.zeros((8, 8, 3), np.uint8), "row 3: image must be 6x6 like the first one, got 8x8"),
        (
            np.zeros((6, 6), np.uint16),
            "row 3: image must have 8 bits per channel, got Pillow's mode 'I;16'",
        ),
    ],
)
def test_a_bad_image_is_named_with_what_was_expected(folder, make, image, message):
    rewrite(folder, make, [*make.photos(3), image])
    with pytest.raises(DataError, match=f"train-00001-of-00002.parquet, {message}"):
        Hub(str(folder)).load(None)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, "row 1: label must be from 0 to 2, got 3"),
        (-1, "row 1: label must be from 0 to 2, got -1"),
        (None, "row 1: label is missing"),
    ],
)
def test_a_bad_label_is_named_before_anything_is_decoded(folder, make, label, message):
    rewrite(folder, make, [b"no image"] * 4, [0, label, 0, 0])
    for call in (Hub(str(folder)).describe, Hub(str(folder)).load):
        with pytest.raises(DataError, match=f"train-00001-of-00002.parquet, {message}"):
            call(None)


def test_one_class_and_no_rows_are_errors(tmp_path, make):
    make.write_parquet(tmp_path / "one" / "train.parquet", make.photos(2), [1, 1])
    make.write_parquet(tmp_path / "none" / "train.parquet", [], [])
    with pytest.raises(DataError, match="at least 2 classes are needed, all are of 'dog'"):
        Hub(str(tmp_path / "one")).describe(None)
    with pytest.raises(DataError, match="no images to train on"):
        Hub(str(tmp_path / "none")).describe(None)


def test_shards_and_splits_must_agree_on_the_classes(folder, make):
    rewrite(folder, make, names=("cat", "owl", "dog"))
    with pytest.raises(
        DataError, match=r"columns and class names must be those of train-00000-of-00002.parquet"
    ):
        Hub(str(folder)).describe(None)
    rewrite(folder, make)
    make.write_parquet(
        folder / "test-00000-of-00001.parquet", make.photos(2), [0, 1], names=("cat", "owl", "dog")
    )
    with pytest.raises(DataError, match="'train' and 'test' must have the same class names"):
        Hub(str(folder)).describe(None)


def test_a_file_that_is_no_parquet_is_named(folder):
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(
        DataError, match=r"train-00001-of-00002.parquet: not a readable Parquet file"
    ):
        Hub(str(folder)).describe(None)


@pytest.mark.parametrize(
    ("kinds", "channels"),
    [
        (["L", "L", "L"], 1),
        (["L", "L", "RGB"], 3),
        (["RGB", "L", "L"], 3),
        (["LA", "L", "L"], 1),
        (["L", "P", "RGBA"], 3),
    ],
)
def test_images_are_grey_only_if_all_are(tmp_path, make, kinds, channels):
    grey = make.photos(3, channels=1)
    encoded = []
    for image, kind in zip(grey, kinds, strict=True):
        file = tmp_path / "image.png"
        Image.fromarray(image).convert(kind).save(file)
        encoded.append(file.read_bytes())
    make.write_parquet(tmp_path / "train.parquet", encoded, [0, 1, 2])
    hub = Hub(str(tmp_path))
    assert hub.describe(None).channels == channels
    assert np.array_equal(hub.load(None).pixels, np.repeat(grey[:, None], channels, axis=1))


def test_the_fingerprint_follows_content_and_not_place(folder, tmp_path_factory, make):
    before = Hub(str(folder)).describe(None).fingerprint
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "README.md").write_text("not part of the data")
    assert Hub(str(copy)).describe(None).fingerprint == before
    rewrite(copy, make, labels=(2, 0, 1, 1))
    assert Hub(str(copy)).describe(None).fingerprint != before


@pytest.fixture
def image_folder(tmp_path, make):
    """Classes ant and bee, 3 + 2 training and 1 + 1 test images, as PNG."""
    for number, name in enumerate(
        (
            "train/bee/b",
            "train/bee/a",
            "train/ant/2",
            "train/ant/1",
            "train/ant/3",
            "test/bee/x",
            "test/ant/y",
        )
    ):
        file = tmp_path / f"{name}.{'PNG' if number == 1 else 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make.encode(make.photos(7)[number]))
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    return tmp_path


def test_an_image_folder_is_read_by_class_and_name(image_folder, make):
    images = Hub(str(image_folder)).load(None)
    assert np.array_equal(
        images.pixels, make.photos(7)[[3, 2, 4, 1, 0, 6, 5]].transpose(0, 3, 1, 2)
    )
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert images.class_names == ("ant", "bee")
    assert images.held_out.tolist() == [False] * 5 + [True] * 2
    description = Hub(str(image_folder)).describe(None)
    assert (description.records, description.held_out, description.classes, description.size) == (
        7,
        2,
        2,
        6,
    )


def test_bad_image_folders_are_errors_that_name_the_file(image_folder, tmp_path_factory):
    hub = Hub(str(image_folder))
    before = hub.describe(None).fingerprint
    (image_folder / "train" / "bee" / "b.png").write_bytes(b"no image")
    assert hub.describe(None).fingerprint != before
    with pytest.raises(DataError, match=r"bee/b\.png: image cannot be decoded"):
        hub.load(None)
    with pytest.raises(DataError, match="no split 'dev'; the splits: test, train"):
        Hub(str(image_folder), train="dev").describe(None)
    (image_folder / "test" / "cow").mkdir()
    with pytest.raises(DataError, match="cow: no class of this name in the training part"):
        hub.describe(None)
    (image_folder / "train" / "cow").mkdir()
    with pytest.raises(DataError, match="cow: no images in this folder"):
        hub.describe(None)
    # The folder of a split that is taken for a class.
    with pytest.raises(
        DataError, match="such as ant: if these are the classes, name the training split"
    ):
        Hub(str(image_folder), train=".").load(None)
    with pytest.raises(DataError, match="neither Parquet files nor folders train/<class>/"):
        hub.load(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(path, monkeypatch):
    monkeypatch.setattr("bitleak.data.hub._downloaded", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(
        DataError, match="a folder or a name on the Hub is needed, and this is neither"
    ):
        Hub(path).describe(None)


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*gone"):
        Hub("someone/something").load(tmp_path / "gone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "path must be"),
        ({"path": "a/b", "test": "train"}, "must be different splits"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Hub(**options)


@pytest.fixture
def downloads(folder, tmp_path_factory, monkeypatch):
    """The Hub, played by the local files; remembers what was asked."""
    datasets = pytest.importorskip("datasets")
    files = {
        "train": sorted(map(str, folder.glob("train-*"))),
        "test": sorted(map(str, folder.glob("test-*"))),
    }
    loaded = datasets.load_dataset(
        "parquet", data_files=files, cache_dir=str(tmp_path_factory.mktemp("cache"))
    )
    asked = []

    def load_dataset(name, revision=None):
        asked.append((name, revision))
        if name == "someone/nothing":
            raise ConnectionError("no network")
        return loaded

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_name_on_the_hub_gives_what_its_files_give(downloads, folder):
    images, local = Hub("someone/something", revision="v1").load(None), Hub(str(folder)).load(None)
    assert downloads == [("someone/something", "v1")]
    assert np.array_equal(images.pixels, local.pixels)
    assert np.array_equal(images.labels, local.labels)
    assert images.class_names == local.class_names
    assert (
        Hub("someone/something", revision="v1").describe(None).fingerprint == "someone/something@v1"
    )


@pytest.mark.usefixtures("downloads")
def test_what_goes_wrong_on_the_hub_is_told_with_a_way_out():
    with pytest.raises(
        DataError, match=r"'someone/nothing' is no folder here .* no network \(give a local copy"
    ):
        Hub("someone/nothing").describe(None)
    with pytest.raises(
        DataError, match="someone/something: no split 'dev'; the splits: test, train"
    ):
        Hub("someone/something", test="dev").describe(None)


@needs_cifar
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_the_real_cifar_is_described_without_being_decoded(name, classes):
    description = Hub("nobody/nothing").describe(REAL / name)
    assert (description.records, description.held_out, description.classes) == (
        60_000,
        10_000,
        classes,
    )
    assert (description.channels, description.size) == (3, 32)


@needs_cifar
def test_real_images_come_out_as_the_datasets_library_decodes_them(tmp_path):
    datasets = pytest.importorskip("datasets")
    for split, file in (
        ("train", "train-00001-of-00002.parquet"),
        ("test", "test-00000-of-00001.parquet"),
    ):
        pq.write_table(
            pq.read_table(REAL / "cifar100" / file).slice(100, 150), tmp_path / f"{split}.parquet"
        )
    images = Hub(str(tmp_path)).load(None)
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    expected = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    rows = [row for split in ("train", "test") for row in expected[split]]
    assert np.array_equal(
        images.pixels, np.stack([np.asarray(row["img"]) for row in rows]).transpose(0, 3, 1, 2)
    )
    assert images.labels.tolist() == [row["fine_label"] for row in rows]
    assert list(images.class_names) == expected["train"].features["fine_label"].names


@needs_cifar
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "mean", "std"),
    [
        ("cifar10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ("cifar100", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ],
)
def test_the_real_cifar_has_its_published_counts_and_statistics(name, classes, mean, std):
    from bitleak.data.array_images import channel_statistics

    images = Hub(str(REAL / name)).load(None)
    assert set(np.bincount(images.labels[~images.held_out])) == {50_000 // classes}
    assert set(np.bincount(images.labels[images.held_out])) == {10_000 // classes}
    found = channel_statistics(images, np.flatnonzero(~images.held_out))
    assert np.allclose(found, (mean, std), atol=6e-5)


def test_a_name_is_remote_only_if_nothing_here_has_it(folder):
    assert Hub("someone/something").is_remote(None)
    assert not Hub("someone/something").is_remote(folder)
    assert not Hub(str(folder)).is_remote(None)
    assert not Hub("./someone/something").is_remote(None)


@pytest.fixture
def cached_files(tmp_path, make, monkeypatch):
    """The Hub, played by a table whose images are files: `paths` is filled by the test."""
    datasets, constants = (
        pytest.importorskip("datasets"),
        pytest.importorskip("huggingface_hub.constants"),
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "datasets--someone--something" / "snapshots" / "0a"
    cached.mkdir(parents=True)
    photos = make.photos(2)
    for number, photo in enumerate(photos):
        (cached / f"{number}.png").write_bytes(make.encode(photo))
    (tmp_path / "secret.png").write_bytes(make.encode(photos[0]))

    def plays(paths):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
        )
        images = [{"bytes": None, "path": str(path)} for path in paths]
        table = datasets.Dataset.from_dict({"image": images, "label": [0, 1]}, features=features)
        monkeypatch.setattr(datasets, "load_dataset", lambda name, revision: {"train": table})
        return Hub("someone/something")

    return plays, cached


def test_an_image_folder_of_the_hub_is_read_from_its_own_cache_only(cached_files, tmp_path, make):
    plays, cached = cached_files
    images = plays([cached / "0.png", cached / "1.png"]).load(None)
    assert np.array_equal(images.pixels, make.photos(2).transpose(0, 3, 1, 2))
    for outside in (tmp_path / "secret.png", cached / "../../../../secret.png", "0.png"):
        with pytest.raises(
            DataError, match=r"image has no bytes, and its path .* is not below the data's folder"
        ):
            plays([cached / "0.png", outside]).load(None)


def test_a_folder_of_class_folders_is_read_if_the_split_is_a_dot(tmp_path, make):
    for number, photo in enumerate(make.photos(5)):
        file = tmp_path / "set" / ("Forest", "River")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make.encode(photo))
    with pytest.raises(
        DataError,
        match=r"no split 'train'; the splits: Forest, River; if these folders are the cl.*: \.",
    ):
        Hub(str(tmp_path / "set")).describe(None)
    description = Hub(str(tmp_path / "set"), train=".").describe(None)
    assert description.counts == (("Forest", 3), ("River", 2))
    assert description.notes == ()
    (tmp_path / "secret.png").write_bytes(make.encode(make.photos(1)[0]))
    (tmp_path / "set" / "River" / "z.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="links out of the data's folder"):
        Hub(str(tmp_path / "set"), train=".").describe(None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("archive/train/a/x", "archive/test/a/x"),
            r"no split 'train'; the splits: archive; give the folder .*archive",
        ),
        (("Train/a/x", "Test/a/x"), "name it with the option train: Train"),
        (("seg_train/seg_train/a/x",), "name the training split with the option train"),
        (("train/x", "test/x"), "train: no class folders; .* labels in a table .* are not read"),
    ],
)
def test_another_layout_of_images_is_refused_with_the_way_out(tmp_path, make, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(make.encode(make.photos(1)[0]))
    with pytest.raises(DataError, match=message):
        Hub(str(tmp_path)).describe(None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train-00000-of-00002",), "1 of 2 shards is there; missing: 1. Complete the download"),
        (("train/0000", "train/0002"), "2 of 3 shards are there; missing: 1"),
        (("train-00000-of-00001", "train-00000-of-00001-9b1f"), "two sets of files of one split"),
        (("train-00000-of-00001", "train"), "two sets of files of one split"),
        (
            ("train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"),
            "two sets of files of one split, so that images would be there twice",
        ),
    ],
)
def test_shards_that_are_missing_or_there_twice_are_refused(tmp_path, make, names, message):
    for name in names:
        make.write_parquet(tmp_path / f"{name}.parquet", make.photos(2), [0, 1])
    with pytest.raises(DataError, match=message):
        Hub(str(tmp_path)).describe(None)


def test_complete_shards_with_digests_or_bare_numbers_are_one_split(tmp_path, make):
    for folder, names in (
        ("a", ("train-00000-of-00002-9b", "train-00001-of-00002-1c")),
        ("b", ("train/0000", "train/0001")),
    ):
        for name in names:
            make.write_parquet(tmp_path / folder / f"{name}.parquet", make.photos(2), [0, 1])
        assert len(Hub(str(tmp_path / folder)).load(None).labels) == 4


def test_leftovers_of_a_mac_or_a_notebook_are_no_classes(tmp_path, make):
    for name in ("cat/a", "dog/b", "__MACOSX/cat/._a", ".ipynb_checkpoints/a-checkpoint"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(make.encode(make.photos(1)[0]))
    assert Hub(str(tmp_path), train=".").load(None).class_names == ("cat", "dog")


def test_classes_that_only_the_held_out_part_has_are_named(folder, make):
    make.write_parquet(folder / "train-00000-of-00002.parquet", make.photos(4), [0, 1, 0, 1])
    rewrite(folder, make, labels=(0, 1, 0, 1))
    said = "1 classes have images in the held-out part only, so that no model learns them: 'owl'"
    assert said in Hub(str(folder)).describe(None).notes


def test_chosen_records_are_decoded_as_all_of_them_are(folder):
    whole = Hub(str(folder)).load(None)
    chosen = np.array([10, 1, 7])
    outlines = []

    def choose(outline):
        outlines.append(outline)
        return chosen

    some = Hub(str(folder)).load_chosen(None, choose)
    expected = np.zeros_like(whole.pixels)
    expected[chosen] = whole.pixels[chosen]
    np.testing.assert_array_equal(some.pixels, expected)
    for images in (some, *outlines):
        assert images.labels.tolist() == whole.labels.tolist()
        assert images.held_out.tolist() == whole.held_out.tolist()
        assert (images.class_names, images.pixels.shape) == (whole.class_names, whole.pixels.shape)


def test_chosen_greyscale_records_of_a_set_in_colour_have_three_channels(tmp_path, make):
    photos = make.photos(4)
    make.write_parquet(tmp_path / "train.parquet", [*photos[:3], photos[3][:, :, 0]], [0, 1, 2, 0])
    some = Hub(str(tmp_path)).load_chosen(None, lambda _: np.array([3]))
    assert some.pixels.shape == (4, 3, *photos.shape[1:3])
    np.testing.assert_array_equal(some.pixels[3], np.repeat(photos[3:, :, :, 0], 3, axis=0))


def test_a_damaged_image_is_named_by_its_row_if_it_is_chosen(folder, make):
    photos = list(make.photos(4, seed=1))
    rewrite(folder, make, [*photos[:2], b"no image", photos[3]])
    hub = Hub(str(folder))
    hub.load_chosen(None, lambda outline: np.flatnonzero(outline.held_out))
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet, row 2: image cannot be"):
        hub.load_chosen(None, lambda _: np.array([0, 7]))


def test_a_chosen_image_of_another_size_is_refused(folder, make):
    rewrite(folder, make, list(make.photos(4, size=5)))
    with pytest.raises(
        DataError, match=r"00001-of-00002\.parquet, row 1: image must be \d+x\d+ like the first one"
    ):
        Hub(str(folder)).load_chosen(None, lambda _: np.array([6]))
