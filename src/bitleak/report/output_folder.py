"""The output folder: what a run leaves in it appears as one, or what was there stays.

A run writes into `OUT/.new.*`, and what it has written takes its place when all of it is on the disk:

1. the folder becomes `OUT/.ready.*`: from here on the run counts,
2. `config.yaml` goes, files take their places by renames, those of an earlier run that have no successor go,
3. `config.yaml` comes last.

Renames need no room, so a full disk ends a run before the first of these steps. Whoever is killed between them has
left a `.ready.*` folder, and the next command on the folder completes it. Files of other names stay as they are.
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
from bitleak.core.ends import uninterrupted
from bitleak.core.errors import StoreError

CONFIG = "config.yaml"

OURS = re.compile(
    r"config\.yaml|results\.(csv|parquet)|(roc|power|records)\.parquet|summary\.json|report\.html"
    r"|figures/(tradeoff|roc|bars|power)\.(svg|png)|gallery/[0-9]+\.png"
)
"""The names of what an audit leaves."""

FIGURES = re.compile(r"figures/(tradeoff|roc|bars|power)\.(svg|png)")
"""The names of its figures."""

NOTHING = re.compile(r"(?!)")
"""No name at all."""

REMEDY = (
    "run `bitleak audit CONFIG --out DIR` again, or `bitleak attack SCORES --out DIR`; what is in the store is not "
    "computed twice"
)
"""Ends the messages about a file of an output folder that cannot be used."""

_NEW = ".new."
_READY = ".ready."
_REMOVED = ".removed.json"


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` into a temporary file of the same folder and rename it.

    Args:
        path: Where it goes; missing folders are made.
        content: All of the file.

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
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error


@contextlib.contextmanager
def as_one(out: Path, *, replaced: re.Pattern[str] = NOTHING) -> Iterator[Path]:
    """A folder to be filled, whose files take their places in the output folder together, or not at all.

    Args:
        out: The output folder; made where it is missing.
        replaced: Names of files of an earlier run that go if they have no successor.

    Raises:
        StoreError: The folder cannot be written to, or the disk is full; what was in it is as it was.
    """
    folder = out / leftovers.new_name(_NEW)
    try:
        out.mkdir(parents=True, exist_ok=True)
        complete(out)
        folder.mkdir()
        yield folder
        names = _names(folder)
        _check_places(out, names)
        gone = [name for name in _names(out) if replaced.fullmatch(name) and name not in names]
        (folder / _REMOVED).write_text(json.dumps(gone), encoding="utf-8")
        for name in (*names, _REMOVED, "."):
            flush(folder / name)
        with uninterrupted():
            ready = folder.with_name(folder.name.replace(_NEW, _READY, 1))
            folder.rename(ready)
            with _or_half(out):
                _put_in_place(ready, out)
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written ({error.strerror or error}), what was in it is as it was; free some space or "
            "give another folder"
        ) from error
    except StoreError as error:
        if type(error) is not StoreError or str(folder) not in str(error):
            raise
        raise StoreError(str(error).replace(str(folder), str(out))) from error
    finally:
        with uninterrupted():
            leftovers.remove(folder)


def complete(out: Path) -> None:
    """Puts in place what a killed run had ready, and removes what another had not."""
    for ready in [*leftovers.dead(out, _READY), *out.glob(f"{_READY}{leftovers.owner()}.*")]:
        _put_in_place(ready, out)
    leftovers.sweep(out, _NEW)


def check_out(out: Path) -> None:
    """Makes the output folder, and completes what a killed run had ready for it.

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
        raise StoreError(f"--out {out}: cannot be made ({error.strerror}); give another folder") from None


def _put_in_place(ready: Path, out: Path) -> None:
    """Moves the files; may be repeated until all of them are moved."""
    names = _names(ready)
    with _alone(out):
        if CONFIG in names:
            (out / CONFIG).unlink(missing_ok=True)
        removed = ready / _REMOVED
        for name in json.loads(removed.read_text(encoding="utf-8")) if removed.exists() else ():
            (out / name).unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: (name == CONFIG, name)):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(ready / name, out / name)
        leftovers.remove(ready)
        with contextlib.suppress(OSError):
            flush(out)


@contextlib.contextmanager
def _or_half(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{out}: not all files could be put in place ({error.strerror or error}); the next run on the folder, or "
            "`bitleak report`, does the rest"
        ) from error


def _names(folder: Path) -> list[str]:
    """The files in a folder and in those that are in it, relative to it; hidden ones do not count."""
    paths = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if not name.startswith("."))


def _check_places(out: Path, names: Sequence[str]) -> None:
    """Whether files can be where they are to be.

    Raises:
        StoreError: A folder has the name of one of the files, or a file that of a folder of them.
    """
    for name in names:
        if (out / name).is_dir():
            raise StoreError(f"{out / name}: expected a file or nothing, got a folder; move it away")
        for parent in (out / name).relative_to(out).parents:
            if (out / parent).exists() and not (out / parent).is_dir():
                raise StoreError(f"{out / parent}: expected a folder or nothing, got a file; move it away")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process at a time, where the file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
