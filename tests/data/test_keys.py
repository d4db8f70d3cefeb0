"""A fingerprint changes if the same bytes are read otherwise than before, and only then."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitleak.data.array_files import Arrays
from bitleak.data.data_checks import content_fingerprint
from bitleak.data.hub import Hub
from bitleak.data.image_metadata import marks_of


def of_content(*files, root):
    """The fingerprint as it always was: names, sizes and bytes."""
    total = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        total.update(f"{len(name)}:{name}:{file.stat().st_size}:".encode() + file.read_bytes())
    return total.hexdigest()


@pytest.mark.parametrize(
    ("labels", "keeps"),
    [([0, 1, 2, 1], True), ([0, 2, 2, 0], True), ([0, 255, 255, 0], False), ([1, 2, 1, 2], False)],
)
def test_the_fingerprint_of_unnamed_integers_changes_only_if_they_are_sorted(
    tmp_path, make, labels, keeps
):
    np.savez(tmp_path / "d.npz", pixels=make.photos(4), labels=np.array(labels))
    arrays = Arrays(str(tmp_path / "d.npz")).describe(None).fingerprint
    assert (arrays == content_fingerprint([tmp_path / "d.npz"], tmp_path / "d.npz")) is keeps

    file = tmp_path / "set" / "train.parquet"
    make.write_parquet(file, make.photos(4), labels, features=False)
    assert (
        Hub(str(file.parent)).describe(None).fingerprint == of_content(file, root=file.parent)
    ) is keeps


@pytest.mark.parametrize("column", [["b", "a"], [True, False], [1.0, 0.0]])
def test_labels_that_are_no_integers_have_a_fingerprint_of_their_own(tmp_path, make, column):
    images = [{"bytes": make.encode(image), "path": None} for image in make.photos(2)]
    pq.write_table(
        pa.table({"image": images, "image_id": [0, 1], "label": column}), tmp_path / "train.parquet"
    )
    described = Hub(str(tmp_path), label="label").describe(None).fingerprint
    assert described != of_content(tmp_path / "train.parquet", root=tmp_path)
    by_name = Hub(str(tmp_path), label="image_id").describe(None).fingerprint
    assert by_name == of_content(tmp_path / "train.parquet", root=tmp_path)


def picture(file, make, *, orientation=None, kind="JPEG", mode="RGB", **options):
    """An image file with an EXIF block, and an orientation in it if one is given."""
    exif = Image.Exif()
    exif[0x10F] = "a camera"
    if orientation is not None:
        exif[0x112] = orientation
    Image.fromarray(make.photos(1)[0]).convert(mode).save(file, kind, exif=exif, **options)
    return file


@pytest.mark.parametrize(
    ("orientation", "keeps"), [(None, True), (1, True), (0, True), (3, False), (6, False)]
)
def test_only_an_orientation_that_turns_changes_the_fingerprint(tmp_path, make, orientation, keeps):
    files = []
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        files.append(picture(tmp_path / "train" / name / "a.jpg", make, orientation=orientation))
    description = Hub(str(tmp_path)).describe(None)
    assert (description.fingerprint == of_content(*files, root=tmp_path)) is keeps
    turned = "2 images are turned or mirrored as their orientation (EXIF) demands"
    assert (turned not in description.notes) is keeps


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_found_in_every_format(tmp_path, make, kind):
    assert marks_of([(picture(tmp_path / "a", make, orientation=6, kind=kind), "a")]).turned == 1
    assert marks_of([(picture(tmp_path / "b", make, kind=kind).read_bytes(), "b")]).turned == 0
