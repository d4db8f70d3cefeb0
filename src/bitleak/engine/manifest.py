"""Manifests: the identity of a finished task, its environment, and size and digest of its files."""

import datetime
import functools
import hashlib
import json
import math
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bitleak.core.damage import DAMAGE, reason
from bitleak.core.errors import BrokenResult
from bitleak.engine.artifacts import why_unreadable
from bitleak.engine.keys import Task, identity_key

LARGEST_MANIFEST = 4 << 20
"""Bytes of a manifest at most."""

DEEPEST_MANIFEST = 64
"""How deep a manifest may be nested."""

MOST = 10**18
"""Seconds or bytes that a manifest may speak of, at most."""

_KINDS = {dict: "a mapping", str: "text"}

ADVICE = "run `bitleak store verify` for all that is broken; a result that is removed is made again"


@dataclass(frozen=True)
class Problem:
    """Something broken in the store.

    Attributes:
        place: Where the result is that it is part of.
        path: The file.
        reason: The damage.
    """

    place: PurePath
    path: PurePath
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def new_manifest(task: Task, files: Iterable[Path], runtime: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of files that were just written."""
    return {
        "task": task.identity,
        "label": task.label,
        "runtime": dict(runtime),
        "files": {
            path.name: {"size": path.stat().st_size, "sha256": digest(path)} for path in files
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def load_manifest(place: Path) -> dict[str, Any]:
    """Return the manifest of a result.

    Raises:
        BrokenResult: It is missing, or it is not a manifest.
    """
    try:
        text = read_text(place / "manifest.json")
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error
    return parse_manifest(text, place)


def read_text(path: Path) -> str:
    """Return the text of a manifest: a plain file of at most `LARGEST_MANIFEST` bytes.

    Raises:
        OSError, ValueError: It cannot be read, is something else, or is larger.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a plain file")
    if status.st_size > LARGEST_MANIFEST:
        raise ValueError(f"it has {status.st_size} bytes")
    return path.read_text(encoding="utf-8")


def parse_manifest(text: str, place: PurePath) -> dict[str, Any]:
    """Return the manifest with this text.

    Args:
        text: Content of the file.
        place: Where the result is.

    Raises:
        BrokenResult: It is not a manifest.
    """
    try:
        return checked_manifest(text)
    except DAMAGE as error:
        raise _unreadable(place, error) from error


def checked_manifest(text: str) -> dict[str, Any]:
    """Return the manifest with this text.

    Raises:
        ValueError, RecursionError: It is not a manifest.
    """
    manifest: dict[str, Any] = _DECODER.decode(text)
    _check(manifest)
    if "\\u" in text:  # half of a surrogate pair can be written by an escape alone
        json.dumps(manifest, ensure_ascii=False).encode()
    return manifest


def _check(manifest: Any) -> None:
    """Refuse a manifest whose entries are not there, or of other types.

    Raises:
        ValueError: One of them is not as expected.
    """
    if not isinstance(manifest, dict):
        raise ValueError("it is not a mapping")
    if _depth(manifest) > DEEPEST_MANIFEST:
        raise ValueError(f"it is nested more than {DEEPEST_MANIFEST} deep")
    kinds = {"task": dict, "runtime": dict, "files": dict, "label": str, "created": str}
    for name, kind in kinds.items():
        if not isinstance(manifest.get(name, "" if kind is str else None), kind):
            raise ValueError(
                f"its {name!r} must be {_KINDS[kind]}, got {_shown(manifest.get(name))}"
            )

    # Sums over tasks (`store ls`, forecasts) read these without another look at their types.
    task = manifest["task"]
    if not (isinstance(task.get("stage"), str) and isinstance(task.get("version"), str)):
        raise ValueError("its task names no stage and version")
    for name in ("seconds", "peak_memory"):
        value = manifest["runtime"].get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
            raise ValueError(
                f"its runtime's {name!r} must be a number from 0 to {MOST:g}, got {_shown(value)}"
            )

    # A name with a path in it would let an imported result read files outside of its folder.
    for name, file in manifest["files"].items():
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not the name of a file beside it")
        size, sha256 = (
            (file.get("size"), file.get("sha256")) if isinstance(file, dict) else (None, None)
        )
        if type(size) is not int or not 0 <= size <= MOST:
            raise ValueError(f"the size of {name} must be a number of bytes, got {_shown(size)}")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError(
                f"the sha256 of {name} must be 64 hexadecimal digits, got {_shown(sha256)}"
            )


def _depth(value: Any) -> int:
    """Return how deep a JSON value is nested."""
    depth, level = 0, [value]
    while level and depth <= DEEPEST_MANIFEST:
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                inside += item.values() if isinstance(item, dict) else item
        level, depth = inside, depth + 1
    return depth


def _refuse_number(text: str) -> float:
    raise ValueError(f"a number in it is {text}")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse_number, parse_float=_finite)
_SHA256 = re.compile("[0-9a-f]{64}")


def _shown(value: Any) -> str:
    return repr(value)[:40]


def problems(place: Path) -> Iterator[Problem]:
    """Yield all damage of a result; read every byte of it."""
    try:
        manifest = load_manifest(place)
    except BrokenResult as error:
        yield Problem(place, place / "manifest.json", f"missing or unreadable ({error.__cause__})")
        return
    if identity_key(manifest["task"]) != place.name:
        yield Problem(
            place, place / "manifest.json", "its task is not the one that the folder is named after"
        )
    for name, file in manifest["files"].items():
        try:
            why = fault(place / name, file, fresh=True) or why_unreadable(place / name)
        except OSError as error:
            why = f"cannot be read ({reason(error)})"
        if why:
            yield Problem(place, place / name, why)


def fault(path: Path, file: Mapping[str, Any], *, fresh: bool = False) -> str:
    """Return the damage of a file of a result; empty if there is none.

    Args:
        path: The file.
        file: Its entry in the manifest: `size`, `sha256`.
        fresh: Read it even if this process has read it before and it has not been written to since.
    """
    if not path.is_file():
        return "missing"
    status = path.stat()
    if status.st_size != file["size"]:
        return f"expected {file['size']} bytes, got {status.st_size}"
    known = (str(path), status.st_ino, status.st_mtime_ns, status.st_size)
    actual = digest(path) if fresh else _digest(*known)
    return "" if actual == file["sha256"] else "its content is not what was written"


def digest(path: Path) -> str:
    """Return the SHA-256 digest of a file, read now, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def _digest(path: str, inode: int, changed: int, size: int) -> str:
    """Return the digest of a file; computed once for as long as it is the same file, unchanged."""
    return digest(Path(path))


def _unreadable(place: PurePath, error: Exception) -> BrokenResult:
    cause = f"{type(error).__name__}: {reason(error)}"
    return BrokenResult(
        f"manifest {place / 'manifest.json'} cannot be read ({cause}): {ADVICE}", place.name
    )
