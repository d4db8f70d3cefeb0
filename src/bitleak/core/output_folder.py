"""The output folder: the files of a run appear in it all together, or none of them does.

A run writes into `OUT/.new.*`. When all its files are on the disk,

1. the folder is renamed to `OUT/.ready.*`: from here on the run counts,
2. `config.yaml` is removed, the files are renamed into their places, and files of an earlier run
   without a successor are removed,
3. `config.yaml` comes last.

Renames need no room, so a full disk ends a run before the first of these steps. A process that is
killed between them leaves a `.ready.*` folder, and the next command on the output folder completes
it. Files of other names stay as they are.
"""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bitleak.core import leftovers
from bitleak.core.disk import flush
from bitleak.core.errors import StoreError
from bitleak.core.interrupts import uninterrupted

CONFIG = "config.yaml"

NOTHING = re.compile(r"(?!)")
"""Matches no name at all."""

_NEW = ".new."
_READY = ".ready."
_REMOVED = ".removed.json"


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` into a temporary file of the same folder and rename it.

    Args:
        path: The file; missing folders are made.
        content: Its whole content.

    Raises:
        StoreError: The folder cannot be made or written to.
    """
    temporary = path.with_name(leftovers.new_name(f".{path.name}."))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error


@contextlib.contextmanager
def as_one(out: Path, *, replaced: re.Pattern[str] = NOTHING) -> Iterator[Path]:
    """Give a folder to fill; its files move to the output folder together or not at all.

    Args:
        out: The output folder; made if it is missing.
        replaced: Names of files of an earlier run that are removed if they have no successor.

    Raises:
        StoreError: The folder cannot be written to, or the disk is full; its content is unchanged.
    """
    folder = out / leftovers.new_name(_NEW)
    try:
        out.mkdir(parents=True, exist_ok=True)
        complete(out)
        folder.mkdir()
        yield folder
        names = _names(folder)
        _check_places(out, names)
        left = set(_names(out)) - set(names)
        removed = sorted(filter(replaced.fullmatch, left))
        (folder / _REMOVED).write_text(json.dumps(removed), encoding="utf-8")

        # All bytes must be on the disk before the one rename by which the run counts.
        for name in (*names, _REMOVED, "."):
            flush(folder / name)
        with uninterrupted():
            ready = folder.with_name(folder.name.replace(_NEW, _READY, 1))
            folder.rename(ready)
            with _resumable(out):
                _put_in_place(ready, out)
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written ({error.strerror or error}), what was in it is as it was; "
            "free some space or give another folder"
        ) from error
    except StoreError as error:
        # The message must name the folder that was given, not the one that is filled.
        if type(error) is not StoreError or str(folder) not in str(error):
            raise
        raise StoreError(str(error).replace(str(folder), str(out))) from error
    finally:
        with uninterrupted():
            leftovers.remove_path(folder)


def complete(out: Path) -> None:
    """Put a killed run's files in place if they were ready, and remove them if not."""
    left_by_this_process = out.glob(f"{_READY}{leftovers.owner()}.*")
    for ready in [*leftovers.dead(out, _READY), *left_by_this_process]:
        _put_in_place(ready, out)
    leftovers.sweep(out, _NEW)


def check_out(out: Path) -> None:
    """Make the output folder, and complete it if a killed run had files ready for it.

    Raises:
        StoreError: It is a file, or it cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise StoreError(f"--out {out}: expected a folder, got a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise StoreError(f"--out {out}: no permission to write; give another folder")
        complete(out)
    except OSError as error:
        raise StoreError(
            f"--out {out}: cannot be made ({error.strerror}); give another folder"
        ) from None


def _put_in_place(ready: Path, out: Path) -> None:
    """Move the files; may be repeated until all of them are moved."""
    names = _names(ready)
    with _locked(out):
        if CONFIG in names:
            (out / CONFIG).unlink(missing_ok=True)
        removed = ready / _REMOVED
        if removed.exists():
            for name in json.loads(removed.read_text(encoding="utf-8")):
                (out / name).unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: (name == CONFIG, name)):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(ready / name, out / name)
        leftovers.remove_path(ready)
        with contextlib.suppress(OSError):
            flush(out)


@contextlib.contextmanager
def _resumable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{out}: not all files could be put in place ({error.strerror or error}); the next run "
            "on the folder, or `bitleak report`, does the rest"
        ) from error


def _names(folder: Path) -> list[str]:
    """Return the files of a folder and of its subfolders, relative to it, without hidden files."""
    names = []
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith("."):
            names.append(name)
    return sorted(names)


def _check_places(out: Path, names: Sequence[str]) -> None:
    """Refuse an output folder in which the files have no place.

    Raises:
        StoreError: A folder has the name of one of the files, or a file the name of their folder.
    """
    for name in names:
        if (out / name).is_dir():
            raise StoreError(
                f"{out / name}: expected a file or nothing, got a folder; move it away"
            )
        for parent in (out / name).relative_to(out).parents:
            if (out / parent).exists() and not (out / parent).is_dir():
                raise StoreError(
                    f"{out / parent}: expected a folder or nothing, got a file; move it away"
                )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, if the file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
