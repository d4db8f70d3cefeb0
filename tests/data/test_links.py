"""Links: a snapshot of the Hub's cache is read, a link to anywhere else is not."""

import numpy as np
import pytest

from bitleak.core.errors import DataError
from bitleak.data.array_files import Arrays
from bitleak.data.hub import Hub


def as_cache(repository, files):
    """Store files as the Hub's cache does: contents in `blobs`, links to them in `snapshots/REVISION`."""
    for number, (name, content) in enumerate(files.items()):
        blob = repository / "blobs" / f"{number:064x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = repository / "snapshots" / "0a1b" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(
            ("../" * (len(link.relative_to(repository).parts) - 1)) + f"blobs/{blob.name}"
        )
    return repository / "snapshots" / "0a1b"


@pytest.fixture
def pictures(make):
    """An image folder of two classes, as names and contents."""
    photos = make.photos(4)
    return {f"train/{'ab'[i % 2]}/{i}.png": make.encode(photo) for i, photo in enumerate(photos)}


def test_an_image_folder_in_the_cache_of_the_hub_is_read(tmp_path, make, pictures):
    snapshot = as_cache(tmp_path / "datasets--x--y", pictures)
    images = Hub(str(snapshot)).load(None)
    assert np.array_equal(images.pixels, make.photos(4)[[0, 2, 1, 3]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("below", [".", "..", "../..", "data"])
def test_parquet_in_the_cache_of_the_hub_is_read_from_any_of_its_folders(tmp_path, make, below):
    make.write_parquet(tmp_path / "t.parquet", make.photos(3), [0, 1, 2])
    content = (tmp_path / "t.parquet").read_bytes()
    snapshot = as_cache(tmp_path / "datasets--x--y", {"data/train-00000-of-00001.parquet": content})
    assert len(Hub(str(snapshot / below)).load(None).labels) == 3


def test_a_snapshot_gives_no_way_out_of_its_repository(tmp_path, make, pictures):
    snapshot = as_cache(tmp_path / "datasets--x--y", pictures)
    (tmp_path / "secret.png").write_bytes(make.encode(make.photos(1)[0]))
    (snapshot / "train" / "a" / "z.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match=r"a/z\.png: links out of the data's folder"):
        Hub(str(snapshot)).describe(None)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_parquet_behind_a_link_that_leads_out_is_refused(tmp_path, make, kind):
    outside, given = tmp_path / "outside" / "data", tmp_path / "set"
    make.write_parquet(outside / "train.parquet", make.photos(2), [0, 1])
    given.mkdir()
    if kind == "file":
        (given / "train.parquet").symlink_to(outside / "train.parquet")
    else:
        (given / "data").symlink_to(outside)
    with pytest.raises(
        DataError,
        match=r"train\.parquet: links out of the data's folder .*; copy the file, or give",
    ):
        Hub(str(given)).describe(None)
    (tmp_path / "link").symlink_to(outside)
    assert Hub(str(tmp_path / "link")).describe(None).records == 2


def test_an_image_folder_may_link_within_itself_and_not_out(tmp_path, pictures):
    given = tmp_path / "set"
    for name, content in pictures.items():
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        (given / name).write_bytes(content)
    (given / "test").symlink_to("train")
    assert Hub(str(given)).describe(None).held_out == 4
    (given / "test").unlink()
    (given / "train").rename(tmp_path / "train")
    (given / "train").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="links out of the data's folder"):
        Hub(str(given)).describe(None)


def test_an_npz_file_may_be_a_link_only_if_it_is_given_itself(tmp_path, make):
    np.savez(tmp_path / "d.npz", pixels=make.photos(2), labels=np.array([0, 1]))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "d.npz").symlink_to(tmp_path / "d.npz")
    assert Arrays(str(tmp_path / "set" / "d.npz")).describe(None).records == 2
    with pytest.raises(DataError, match=r"d\.npz: links out of the data's folder"):
        Arrays("d.npz").describe(tmp_path / "set")
