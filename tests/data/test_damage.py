"""Pictures and tables whose headers claim more than is there: refused before room is made for it."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitleak.core import parquet
from bitleak.core.errors import DataError
from bitleak.data.array_files import Arrays
from bitleak.data.decode import geometry, stacked
from bitleak.data.hub import Hub


def png_of(size: int) -> bytes:
    """A valid PNG of one bit and one colour: 8,000 pixels a side are a few hundred bytes per thousand rows."""
    packer, parts = zlib.compressobj(), []
    for _ in range(size):
        parts.append(packer.compress(bytes(1 + (size + 7) // 8)))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 1, 0, 0, 0, 0)),
        (b"IDAT", b"".join(parts) + packer.flush()),
        (b"IEND", b""),
    ]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def small(size: int = 6) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(size * size, dtype=np.uint8).reshape(size, size)).save(stream, "PNG")
    return stream.getvalue()


def peak_of(act) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_image_of_more_pixels_than_the_limit_is_not_decoded():
    image = png_of(8200)

    def read():
        for reader in (lambda items: stacked(items, 1), geometry):
            with pytest.raises(
                DataError, match="here: image must have at most 67,108,864 pixels, got 8200x8200"
            ):
                reader([(image, "here")])

    assert len(image) < 40_000
    assert peak_of(read) < 1 << 20


def test_an_image_of_another_size_than_the_first_is_not_decoded():
    image = png_of(8000)

    def read():
        with pytest.raises(
            DataError, match="b: image must be 6x6 like the first one, got 8000x8000"
        ):
            stacked([(small(), "a"), (image, "b")], 2)

    assert peak_of(read) < 1 << 20


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_of_a_large_canvas_is_not_opened(kind):
    side = (16384 - 1).to_bytes(3, "little")
    heads = {
        b"VP8X": bytes(8) + side + side,
        b"VP8L": bytes(4) + b"\x2f" + ((16383 << 14) | 16383).to_bytes(4, "little"),
        b"VP8 ": bytes(10) + (16383).to_bytes(2, "little") * 2,
    }
    body = kind + heads[kind].ljust(40, b"\0")
    image = b"RIFF" + len(body).to_bytes(4, "little") + b"WEBP" + body
    with pytest.raises(
        DataError,
        match=r"here: image cannot be decoded: image must have at most .*, got 1638\dx1638\d",
    ):
        stacked([(image, "here")], 1)


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_images_of_all_sizes_are_read(lossless):
    for size in (1, 2, 31, 256):
        stream = io.BytesIO()
        Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(stream, "WEBP", lossless=lossless)
        assert stacked([(stream.getvalue(), "here")], 1).shape == (1, 3, size, size)


def table_of(images: list[bytes], **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"img": images, "label": np.arange(len(images)) % 2}), sink, **options)
    return sink.getvalue()


def test_batches_hold_bytes_and_not_rows(tmp_path):
    noise = np.random.default_rng(0)
    large = [noise.bytes(100_000) for _ in range(64)]
    file = tmp_path / "train.parquet"
    file.write_bytes(table_of(large))
    with parquet.opened_parquet(file) as opened:
        found = list(opened.batches(["img"], size=1 << 20))
        assert [value for batch in found for value in batch["img"].to_pylist()] == large
        assert max(batch.nbytes for batch in found) < 1.1 * (1 << 20)
        assert len(list(opened.batches(["label"]))) == 1


def test_a_value_that_a_dictionary_repeats_counts_in_every_row(tmp_path):
    file = tmp_path / "train.parquet"
    file.write_bytes(table_of([np.random.default_rng(0).bytes(100_000)] * 500))
    assert file.stat().st_size < 200_000
    with parquet.opened_parquet(file) as opened:
        batches = opened.batches(["img"], size=1 << 20)
        assert max(batch.nbytes for batch in batches) < 1.3 * (1 << 20)


@pytest.mark.parametrize("ours", [True, False])
def test_a_page_that_does_not_fit_its_checksum_is_refused(tmp_path, ours):
    file = tmp_path / "train.parquet"
    table = pa.table({"img": [small()] * 40, "label": np.arange(40) % 2, "note": ["mark"] * 40})
    if ours:
        file.write_bytes(parquet.to_parquet(table))
    else:
        pq.write_table(
            table, file, write_page_checksum=True, compression="none", use_dictionary=False
        )
    assert len(Hub(str(tmp_path), label="label").load(None).labels) == 40
    data, column = file.read_bytes(), pq.read_metadata(file).row_group(0).column(0)
    start = column.dictionary_page_offset if ours else column.data_page_offset
    place = start + column.total_compressed_size - 1  # the last byte of the last page
    file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(
        DataError,
        match=r"train\.parquet: not a readable Parquet file, it may be cut off: .*(CRC|checksum)",
    ):
        Hub(str(tmp_path), label="label").load(None)


def test_an_array_that_would_unpack_to_far_more_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("bitleak.core.archive.UNPACKED", 1 << 20)
    file = tmp_path / "a.npz"
    np.savez_compressed(file, pixels=np.zeros((2, 1, 2000, 2000), np.uint8), labels=[0, 1])
    with zipfile.ZipFile(file) as archive:
        monkeypatch.setattr(
            "bitleak.core.archive.RATIO", archive.getinfo("pixels.npy").file_size // 9000
        )
    with pytest.raises(DataError, match=r"pixels\.npy would unpack to 0\.0 GB from [0-9,]+ bytes"):
        Arrays(str(file)).load(None)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("(-2, 6, 6)", r"lengths of 0 or more, got \(-2, 6, 6\)"),
        ("(1099511627776, 6, 6)", "39,582,418,599,936 bytes of numbers are needed"),
        ("(2, 6, 6", "no Python literal"),
        ("(2, 6.0, 6)", "lengths of 0 or more"),
    ],
)
def test_a_shape_that_cannot_be_is_named(tmp_path, shape, said):
    file = tmp_path / "a.npz"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(72)
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(file, "w", way) as archive:
            archive.writestr("pixels.npy", content)
        with pytest.raises(DataError, match=said):
            Arrays(str(file)).load(None)


def test_an_lzma_stream_that_asks_for_a_large_dictionary_is_not_unpacked(tmp_path):
    file, stream = tmp_path / "a.npz", io.BytesIO()
    np.save(stream, np.zeros((2, 1, 6, 6), np.uint8))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("pixels.npy", stream.getvalue())
    data = bytearray(file.read_bytes())
    place = 30 + len("pixels.npy") + 5
    data[place : place + 4] = (1 << 31).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"pixels\.npy asks for 2,147,483,648 bytes"):
        Arrays(str(file)).load(None)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a" * 300, "is no name of a file: File name too long"),
        ("a\0b", "is no name of a file: embedded null"),
    ],
)
def test_a_path_that_is_no_name_of_a_file_is_named(tmp_path, path, said):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": small(), "path": None}, {"bytes": None, "path": path}], kind)
    pq.write_table(pa.table({"img": images, "label": [0, 1]}), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=rf"train\.parquet, row 1: image has no bytes, and its path .* {said}"
    ):
        Hub(str(tmp_path)).load(None)


def test_a_number_in_the_place_of_bytes_makes_no_room(tmp_path):
    pq.write_table(
        pa.table({"img": [{"bytes": 1 << 50}] * 2, "label": [0, 1]}), tmp_path / "train.parquet"
    )
    with pytest.raises(DataError, match="no image column, which holds encoded images"):
        Hub(str(tmp_path)).load(None)
