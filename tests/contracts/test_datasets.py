"""What every entry of the registry's DATASETS must do."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from bitleak.core.types import Description
from bitleak.data import checked_images
from bitleak.registry import DATASETS, find

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)


def png(number):
    stream = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(stream, "PNG")
    return stream.getvalue()


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def make_digits(root):
    return {}, None


def make_hub(root):
    for number in range(12):
        write(
            root / ("test" if number > 7 else "train") / "ab"[number % 2] / f"{number:02}.png",
            png(number),
        )
    return {"path": str(root)}, root


def make_tiny_imagenet(root):
    for number in range(8):
        write(root / "train" / f"n{number % 2}" / "images" / f"{number}.JPEG", png(number))
    for number in range(8, 12):
        write(root / "val" / "images" / f"{number}.JPEG", png(number))
    write(root / "wnids.txt", b"n0\nn1\n")
    write(
        root / "val" / "val_annotations.txt",
        "".join(f"{n}.JPEG\tn{n % 2}\n" for n in range(8, 12)).encode(),
    )
    return {"path": str(root)}, root


def make_arrays(root):
    labels = np.arange(12) % 2
    np.savez(
        root / "a.npz",
        pixels=PIXELS[:8],
        labels=labels[:8],
        test_pixels=PIXELS[8:],
        test_labels=labels[8:],
    )
    return {"path": str(root / "a.npz")}, root


def make_table(root):
    lines = [f"{n % 5},{n / 8},{'ab'[n % 2]}" for n in range(12)]
    write(root / "rows.csv", "\n".join(["size,weight,label", *lines[:8]]).encode())
    write(root / "rest.csv", "\n".join(["size,weight,label", *lines[8:]]).encode())
    return {"path": str(root / "rows.csv"), "test": "rest.csv"}, root


def without_options(root):
    """Options of an entry that is not in `MAKE`: a data set that needs no files must work with its defaults."""
    return {}, None


MAKE = {
    "digits": make_digits,
    "hub": make_hub,
    "tiny_imagenet": make_tiny_imagenet,
    "arrays": make_arrays,
    "table": make_table,
}


@pytest.fixture(params=sorted(DATASETS))
def entry(request, tmp_path):
    """The entry's class, its options for a small set, and the folder that may be given as root."""
    kind = find(DATASETS, request.param, kind="data set")
    return kind, *MAKE.get(request.param, without_options)(tmp_path)


def test_it_is_a_frozen_dataclass_made_from_its_config_keys(entry):
    kind, options, _ = entry
    made = TypeAdapter(kind).validate_python(options)
    assert dataclasses.is_dataclass(made)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.anything = 1
    assert TypeAdapter(kind).validate_python(TypeAdapter(kind).dump_python(made)) == made


def test_its_images_pass_the_common_check_and_held_out_ones_come_last(entry):
    kind, options, _ = entry
    images = checked_images(kind(**options).load(None), "contract")
    assert images.pixels.flags.c_contiguous
    assert images.pixels.max() > images.pixels.min()
    assert len(set(images.class_names)) == len(images.class_names)
    assert (np.diff(images.held_out.astype(int)) >= 0).all()
    assert len(np.unique(images.labels)) == len(images.class_names)


def test_its_description_says_what_loading_gives(entry):
    kind, options, root = entry
    images = kind(**options).load(root)
    description = kind(**options).describe(root)
    records, channels, *sides = images.pixels.shape
    size = sides[0] if sides else 0
    assert description == Description(
        records=records,
        held_out=int(images.held_out.sum()),
        classes=len(images.class_names),
        channels=channels,
        size=size,
        fingerprint=description.fingerprint,
    )
    assert len(description.fingerprint) >= 32


def test_its_order_and_fingerprint_are_the_same_every_time(entry):
    kind, options, root = entry
    first, again = kind(**options).load(None), kind(**options).load(root)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.labels, again.labels)
    assert kind(**options).describe(None) == kind(**options).describe(root)


def test_naming_a_data_set_or_a_split_imports_no_torch():
    code = (
        "import sys; import bitleak.data; from bitleak.registry import DATASETS, find; "
        "[find(DATASETS, name, kind='data set') for name in DATASETS]; "
        "heavy = {'torch', 'datasets', 'sklearn', 'pyarrow'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
