"""Reading the results in a tar file, every byte of which is checked.

Most headers are those of `export_results`: plain files of the ustar format. They are read here,
since `tarfile` takes longer for a header than all other checks of a small result together. From the
first header of another kind on, be it the end, `tarfile` reads the file.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from bitleak.core.damage import DAMAGE, reason
from bitleak.core.errors import StoreError
from bitleak.engine.backends.folder import MANIFEST
from bitleak.engine.keys import identity_key
from bitleak.engine.manifest import LARGEST_MANIFEST, checked_manifest

CHUNK = 1 << 20
"""Bytes read at a time."""

CHECKED_PER_REPORT = 256
"""Results between two reports of progress."""

_BLOCK = tarfile.BLOCKSIZE
_NAME = re.compile(
    r"((?!logs/)[A-Za-z_]\w*/([0-9a-f]{2})/\2[0-9a-f]{62})/([A-Za-z0-9_][\w-]*\.(?:npy|safetensors|json))",
    re.A,
)
_OCTAL = re.compile(rb"[0-7]+")
_SIZE = re.compile(rb"[0-7]{11}[\0 ]")


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of a result in a tar file.

    Attributes:
        name: Its name in the result's folder.
        offset: Place of its first byte in the tar file.
        size: Its bytes.
        sha256: Its digest, in hexadecimal digits.
    """

    name: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackedResult:
    """A result in a tar file that has been checked.

    Attributes:
        path: The tar file.
        name: Stage, first two digits of the key, and key, with slashes.
        manifest: Bytes of its manifest.
        files: All other files.
    """

    path: Path
    name: str
    manifest: bytes
    files: tuple[PackedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


class _Member(NamedTuple):
    """A plain file in a tar file: its place and name there, and the bytes."""

    folder: str
    name: str
    offset: int
    size: int

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"


def check_tar(path: Path, on_position: Callable[[int], None]) -> list[PackedResult]:
    """Return the results in a tar file.

    Args:
        path: The file.
        on_position: Called now and then with the number of bytes that have been checked.

    Raises:
        StoreError: It cannot be read, or something in it is not as `bitleak.engine.transfer`
            describes.
    """
    try:
        with path.open("rb", buffering=CHUNK) as file:
            size = _check_end(file)
            results = []
            for result in _results(path, file, size):
                results.append(result)
                if len(results) % CHECKED_PER_REPORT == 0:
                    on_position(file.tell())
            return results
    except (OSError, tarfile.TarError, EOFError) as error:
        raise StoreError(
            f"{path} is not a tar file that can be read ({reason(error)}); nothing was taken"
        ) from error
    except ValueError as error:
        raise StoreError(f"{path}: {error}; nothing was taken") from error


def _check_end(file: BinaryIO) -> int:
    """Return the size of a tar file that ends as one; the position is at its start."""
    end = 2 * _BLOCK
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - end))
    if size % _BLOCK or file.read(end) != bytes(end):
        raise ValueError("it was cut off, or is not a tar file: its end is missing")
    file.seek(0)
    return size


def _results(path: Path, file: BinaryIO, size: int) -> Iterator[PackedResult]:
    members = _members(file, size)
    seen: set[str] = set()
    for first in members:
        if first.name != MANIFEST or first.folder in seen:
            raise ValueError(f"{first.path}: a result must be in one piece, its manifest first")
        seen.add(first.folder)
        if not 0 < first.size <= LARGEST_MANIFEST:
            raise ValueError(f"{first.path}: a manifest of {first.size} bytes")
        file.seek(first.offset)
        manifest = _read(file, first.size)
        expected = _expected_files(first, manifest)
        files: dict[str, PackedFile] = {}
        for _ in expected:
            member = next(members, None)
            if member is None:
                raise ValueError(f"{first.folder} lacks files of its manifest")
            if member.folder == first.folder and member.name in files:
                raise ValueError(f"{first.folder} holds a file twice")
            files[member.name] = _checked_file(member, first.folder, expected, file)
        yield PackedResult(path, first.folder, manifest, tuple(files.values()))


def _members(file: BinaryIO, size: int) -> Iterator[_Member]:
    """Yield all plain files of a tar file in order; the position of the file is left to the caller.

    Raises:
        ValueError: There is something else, or something after the end.
    """
    offset = 0
    while (member := _ustar_member(file, offset)) is not None:
        yield member
        offset = _next_header(member)
    # Everything else, and every error: `tarfile` knows all formats.
    file.seek(offset)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            if (
                info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE)
                or info.issparse()
                or info.pax_headers
            ):
                raise ValueError(
                    f"{info.name[:200]!r} is not a plain file (a link, a folder, a device, ...)"
                )
            member = _member(info.name, info.offset_data, info.size)
            yield member
            offset = _next_header(member)
    # `tarfile` takes a damaged header for the end.
    file.seek(offset)
    while content := file.read(CHUNK):
        if content.strip(b"\0"):
            raise ValueError(f"there is something after its end, at byte {offset}")


def _ustar_member(file: BinaryIO, offset: int) -> _Member | None:
    """Return the plain file whose header is at a place, or None if it is not one of the common
    kind.

    name 0:100, size 124:136 in octal digits, checksum 148:156, type 156, magic 257:265, prefix of
    the name 345:500
    """
    file.seek(offset)
    header = file.read(_BLOCK)
    if len(header) < _BLOCK or header[257:265] != b"ustar\x0000" or header[156:157] != b"0":
        return None
    checksum, prefix = header[148:156].strip(b"\0 "), header[345:500].rstrip(b"\0")
    if (
        not _SIZE.fullmatch(header[124:136])
        or not _OCTAL.fullmatch(checksum)
        or not header.isascii()
    ):
        return None
    # The sum of all bytes, those of the checksum counting as spaces.
    if int(checksum, 8) != sum(header) - sum(header[148:156]) + 8 * 0x20:
        return None
    name = header[:100].rstrip(b"\0")
    if prefix:
        name = prefix + b"/" + name
    return _member(name.decode("ascii"), offset + _BLOCK, int(header[124:135], 8))


def _next_header(member: _Member) -> int:
    return member.offset + -(-member.size // _BLOCK) * _BLOCK


def _member(name: str, offset: int, size: int) -> _Member:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name[:200]!r} is not the name of a file of a result")
    return _Member(match[1], match[3], offset, size)


def _expected_files(member: _Member, content: bytes) -> Mapping[str, Mapping[str, Any]]:
    """Return the files that a manifest names, after its task has been compared with the folder's
    name.
    """
    stage, _, key = member.folder.split("/")
    try:
        manifest = checked_manifest(content.decode("utf-8"))
        task = manifest["task"]
        if set(task) != {"stage", "version", "params", "inputs"} or task["stage"] == "logs":
            raise ValueError("it does not name a task")
        if not isinstance(task["params"], dict) or not _are_keys(task["inputs"]):
            raise ValueError("its task's params or inputs are not those of a task")
        named = (task["stage"], identity_key(task))
    except DAMAGE as error:
        raise ValueError(f"{member.path} is not a manifest ({reason(error)})") from error
    if named != (stage, key):
        raise ValueError(f"{member.path}: its task is not the one that the folder is named after")
    files: Mapping[str, Mapping[str, Any]] = manifest["files"]
    return files


def _are_keys(inputs: Any) -> bool:
    """Return whether a JSON value is a mapping of texts, or of lists of texts."""
    if not isinstance(inputs, dict):
        return False
    for keys in inputs.values():
        if not isinstance(keys, str) and not (
            isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        ):
            return False
    return True


def _checked_file(
    member: _Member, folder: str, expected: Mapping[str, Mapping[str, Any]], file: BinaryIO
) -> PackedFile:
    if member.folder != folder or member.name not in expected or member.name == MANIFEST:
        raise ValueError(f"{member.path} is not one of the files of the manifest of {folder}")
    size, sha256 = expected[member.name]["size"], expected[member.name]["sha256"]
    if member.size != size or size < 0:
        raise ValueError(f"{member.path}: expected {size} bytes, got {member.size}")
    digest = hashlib.sha256()
    file.seek(member.offset)
    for start in range(0, size, CHUNK):
        digest.update(_read(file, min(CHUNK, size - start)))
    if digest.hexdigest() != sha256:
        raise ValueError(f"{member.path}: its content is not what was written")
    return PackedFile(member.name, member.offset, size, sha256)


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError("it was cut off")
    return content
