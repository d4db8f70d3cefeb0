"""The entries of an `.npz` file, checked before any of them is unpacked.

A zip file states the sizes and positions of its entries itself. Entries that would unpack to far
more than they take, that overlap, or that outnumber the names that any reader knows are refused.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitleak.core.damage import damage_as
from bitleak.core.errors import DataError, printable

ENTRIES = 64
"""Largest number of arrays of a file."""

UNPACKED = 64 << 20
"""Size of an unpacked array, in bytes, up to which its compression is not questioned."""

RATIO = 1100
"""Largest compression of a larger array: deflate, which NumPy uses, reaches 1032 at most."""


@contextmanager
def opened_npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive of arrays; yields it with its entries by the names of the arrays.

    Raises:
        DataError: It is no such archive, or the caller's block meets damage.
    """
    if not path.is_file():
        raise DataError(f"{path}: not an .npz file: not a regular file")
    advice = "write it again with numpy.savez (pickles are never loaded)"
    message = f"{path}: not an .npz file that can be read, it may be cut off"
    with damage_as(DataError, message, advice), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check(infos, path)
        yield archive, {info.filename.removesuffix(".npy"): info for info in infos}


def _check(infos: list[zipfile.ZipInfo], path: Path) -> None:
    if len(infos) > ENTRIES:
        raise DataError(f"{path}: expected at most {ENTRIES} arrays, got {len(infos)}")
    for info in infos:
        if not info.filename.endswith(".npy") or info.flag_bits & 1:
            raise DataError(
                f"{path}: expected an .npz file of plain arrays, but it holds '{printable(info.filename[:100])}'; "
                "nothing is ever unpickled: save the arrays with numpy.savez"
            )
        if info.file_size > max(UNPACKED, RATIO * info.compress_size):
            raise DataError(
                f"{path}: {info.filename} would unpack to {info.file_size / 1e9:,.1f} GB from {info.compress_size:,} "
                "bytes; write it again with numpy.savez"
            )
        if info.compress_type == zipfile.ZIP_LZMA:
            _check_lzma(info, path)
    if len({info.filename for info in infos}) != len(infos):
        raise DataError(f"{path}: an array occurs twice in the archive")
    if sum(info.compress_size for info in infos) > path.stat().st_size:
        raise DataError(f"{path}: its arrays lie over each other; write it again with numpy.savez")


def _check_lzma(info: zipfile.ZipInfo, path: Path) -> None:
    """Refuse a packed entry that declares a large dictionary: memory is reserved for all of it."""
    with path.open("rb") as raw:
        # A local header has 30 bytes, the last 4 the lengths of the name and the extra field; the
        # packed data begins with 4 bytes of zip and 5 of LZMA properties, the last 4 the
        # dictionary's size.
        raw.seek(info.header_offset + 26)
        lengths = raw.read(4)
        raw.seek(
            info.header_offset
            + 30
            + int.from_bytes(lengths[:2], "little")
            + int.from_bytes(lengths[2:], "little")
        )
        head = raw.read(9)
    dictionary = int.from_bytes(head[5:], "little")
    if dictionary > UNPACKED:
        raise DataError(
            f"{path}: {info.filename} asks for {dictionary:,} bytes to be unpacked; write it again with numpy.savez"
        )
