"""Manifests: what a finished task was, what it ran on, and a size and digest of each of its files."""

import datetime
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bitleak.core.errors import BrokenResult
from bitleak.engine.keys import Task, canonical_json

ADVICE = "run `bitleak store verify` for all that is broken; a result that is removed is made again"


@dataclass(frozen=True)
class Problem:
    """Something broken in the store.

    Attributes:
        place: Where the result is that it is part of.
        path: The file.
        reason: What is wrong with it.
    """

    place: PurePath
    path: PurePath
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def new_manifest(task: Task, files: Iterable[Path], runtime: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of files that were just written."""
    return {
        "task": task.identity,
        "label": task.label,
        "runtime": dict(runtime),
        "files": {path.name: {"size": path.stat().st_size, "sha256": digest(path)} for path in files},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def load_manifest(place: Path) -> dict[str, Any]:
    """The manifest of a result.

    Raises:
        BrokenResult: It is missing, or it is not a manifest.
    """
    try:
        text = (place / "manifest.json").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error
    return parse_manifest(text, place)


def parse_manifest(text: str, place: PurePath) -> dict[str, Any]:
    """The manifest with this text.

    Args:
        text: What the file holds.
        place: Where the result is.

    Raises:
        BrokenResult: It is not a manifest.
    """
    try:
        manifest = json.loads(text)
        if not isinstance(manifest["task"], dict):
            raise ValueError("it names no task")
        for name, file in manifest["files"].items():
            int(file["size"]), str(file["sha256"])
            if PurePath(name).name != name:
                raise ValueError(f"{name!r} is not the name of a file beside it")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(place, error) from error
    return manifest


def problems(place: Path) -> Iterator[Problem]:
    """Everything about a result that is not as it was written; reads every byte of it."""
    try:
        manifest = load_manifest(place)
    except BrokenResult:
        yield Problem(place, place / "manifest.json", "missing or unreadable")
        return
    if hashlib.sha256(canonical_json(manifest["task"])).hexdigest() != place.name:
        yield Problem(place, place / "manifest.json", "its task is not the one that the folder is named after")
    for name, file in manifest["files"].items():
        reason = fault(place / name, file, fresh=True)
        if reason:
            yield Problem(place, place / name, reason)


def fault(path: Path, file: Mapping[str, Any], *, fresh: bool = False) -> str:
    """What is wrong with a file of a result; empty if nothing is.

    Args:
        path: The file.
        file: What the manifest says of it: `size`, `sha256`.
        fresh: Read it even if this process has read it before and it has not been written to since.
    """
    if not path.is_file():
        return "missing"
    status = path.stat()
    if status.st_size != file["size"]:
        return f"expected {file['size']} bytes, got {status.st_size}"
    known = (str(path), status.st_ino, status.st_mtime_ns, status.st_size)
    found = digest(path) if fresh else _digest(*known)
    return "" if found == file["sha256"] else "its content is not what was written"


def digest(path: Path) -> str:
    """The SHA-256 digest of a file, read now, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def _digest(path: str, inode: int, changed: int, size: int) -> str:
    """The digest of a file; computed once for as long as it is the same file, unchanged."""
    return digest(Path(path))


def _unreadable(place: PurePath, error: Exception) -> BrokenResult:
    reason = f"{type(error).__name__}: {error}"
    return BrokenResult(f"manifest {place / 'manifest.json'} cannot be read ({reason}): {ADVICE}", place.name)
