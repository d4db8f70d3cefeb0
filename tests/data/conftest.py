import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def encode(array, mode=None, kind="PNG"):
    """An image file's bytes from an array [height, width] or [height, width, channels]."""
    stream = io.BytesIO()
    Image.fromarray(array, mode).save(stream, kind)
    return stream.getvalue()


def photos(count, seed=0, size=6, channels=3):
    """Random images, [count, size, size, channels] or, of one channel, [count, size, size]."""
    shape = (count, size, size) if channels == 1 else (count, size, size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_parquet(
    file,
    images,
    labels,
    *,
    names=("cat", "dog", "owl"),
    image="img",
    label="label",
    extra=None,
    features=True,
):
    """A shard in the Hub's layout; `images` are bytes, None, or what `encode` takes."""
    content = [value if isinstance(value, bytes | None) else encode(value) for value in images]
    columns = {
        image: pa.array(
            [{"bytes": value, "path": None} for value in content],
            pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        ),
        label: pa.array(labels, pa.int64()),
        **{name: pa.array(values) for name, values in (extra or {}).items()},
    }
    known = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    if extra and "coarse_label" in extra:
        known["coarse_label"] = {"names": ["pet", "bird"], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": known}})} if features else None
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)


class Make:
    """What tests of loaders make their files with."""

    encode = staticmethod(encode)
    photos = staticmethod(photos)
    write_parquet = staticmethod(write_parquet)


@pytest.fixture
def make():
    return Make
