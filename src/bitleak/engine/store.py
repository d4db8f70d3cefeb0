"""The store: what finished tasks made, in folders named by their keys.

```
ROOT/format.json
ROOT/logs/<key>.log
ROOT/<stage>/<first two digits of the key>/<key>/{manifest.json, *.npy, *.safetensors, *.json}
```

A result is written into a temporary folder beside its place, the manifest last, and moved there by
one rename: a manifest exists = the task is done. Whoever is killed leaves a temporary folder, which
counts for nothing. Two writers of one task write the same; the second is dropped. The manifest
records the task, what it ran on, and a size and SHA-256 digest per file.
"""

import contextlib
import errno
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from bitleak.core.errors import BrokenResult, StoreError
from bitleak.engine.artifacts import Artifact, flush, read_artifact, write_artifact
from bitleak.engine.keys import Task
from bitleak.engine.manifest import ADVICE, Problem, fault, load_manifest, new_manifest, problems

FORMAT = 1
STALE = 3600.0
"""Seconds after which a temporary folder is taken for abandoned."""


@dataclass(frozen=True)
class Entry:
    """A finished task in the store.

    Attributes:
        stage: Its stage.
        key: Its key.
        path: Its folder.
        size: Bytes of its files, without the manifest.
        manifest: Everything recorded: `task`, `label`, `runtime`, `files`, `created`.
    """

    stage: str
    key: str
    path: Path
    size: int
    manifest: Mapping[str, Any]


class Store:
    """Results of tasks in a folder.

    Args:
        root: The folder.
        create: Make it where it is missing, and insist on being able to write to it.

    Raises:
        StoreError: It is not a folder, not a store, not writable, or of a newer format.
    """

    def __init__(self, root: str | Path, *, create: bool = True) -> None:
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"store {self.root} must be a folder, but it is a file")
        with _usable(self.root):
            if create:
                self.root.mkdir(parents=True, exist_ok=True)
                if not os.access(self.root, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, "no permission to write")
                if not (self.root / "format.json").exists():
                    _replace(self.root / "format.json", json.dumps({"format": FORMAT}))
        _check_format(self.root)

    def path(self, task: Task) -> Path:
        """Where the task's result is or will be."""
        return self.root / task.stage / task.key[:2] / task.key

    def has(self, task: Task) -> bool:
        """Whether the task is done."""
        return (self.path(task) / "manifest.json").is_file()

    def find(self, key: str) -> Path | None:
        """The folder of the finished task with this key, whatever its stage; None if there is none."""
        places = (stage / key[:2] / key for stage in self._stages())
        return next((place for place in places if (place / "manifest.json").is_file()), None)

    def write(self, task: Task, artifacts: Mapping[str, Artifact], runtime: Mapping[str, Any]) -> Path:
        """Commits the result of a task: all of it or, when interrupted, nothing.

        Args:
            task: What was done.
            artifacts: Arrays, mappings of arrays, and JSON values by name.
            runtime: What it ran on, for the record: JSON values.

        Returns:
            The folder; what somebody else committed before stays as it is.

        Raises:
            StoreError: The disk is full, or the store cannot be written to.
            TypeError, ValueError: An artifact cannot be stored.
        """
        place = self.path(task)
        if self.has(task):
            return place
        temporary = _temporary(place)
        try:
            with _usable(self.root):
                temporary.mkdir(parents=True)
                files = [write_artifact(temporary, name, value) for name, value in artifacts.items()]
                manifest = new_manifest(task, files, runtime)
                _write_text(temporary / "manifest.json", json.dumps(manifest, indent=1))
                _move(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return place

    def read(self, task: Task) -> dict[str, Artifact]:
        """The artifacts of a finished task by name; arrays may be read-only memory maps.

        Raises:
            BrokenResult: It is not done, or one of its files is missing or not as it was written.
        """
        return self.read_key(task.key)

    def read_key(self, key: str) -> dict[str, Artifact]:
        """As `read`, by key."""
        place = self.find(key)
        if place is None:
            raise BrokenResult(f"store {self.root} holds no finished task {key}", key)
        return {Path(name).stem: _read(place / name, file) for name, file in load_manifest(place)["files"].items()}

    def ls(self) -> list[Entry]:
        """All finished tasks whose manifest can be read, by stage and key."""
        found = []
        for place in self._places():
            with contextlib.suppress(StoreError):
                found.append(_entry(place))
        return found

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Stage -> number of finished tasks and bytes of their files."""
        totals: dict[str, tuple[int, int]] = {}
        for entry in self.ls():
            count, size = totals.get(entry.stage, (0, 0))
            totals[entry.stage] = (count + 1, size + entry.size)
        return totals

    def verify(self) -> list[Problem]:
        """Reads every file of every task and names all that is not as it was written."""
        return [problem for place in self._places() for problem in problems(place)]

    def remove(self, place: Path) -> None:
        """Takes a result out of the store, so that it is made again when it is needed."""
        temporary = _temporary(place)
        with _usable(self.root):
            place.rename(temporary)  # first: half a result must not keep its manifest
            shutil.rmtree(temporary)

    def discard(self, task: Task) -> None:
        """Takes a damaged result out of the store; one that is as it was written, by now, stays.

        Raises:
            StoreError: It cannot be removed.
        """
        place = self.path(task)
        if place.exists() and any(problems(place)):
            self.remove(place)

    def gc(self, keep: Collection[str], *, dry_run: bool = False) -> list[Path]:
        """Removes all results but those with these keys, and temporary folders left by the killed.

        Args:
            keep: Keys of tasks.
            dry_run: Only say what would be removed.

        Returns:
            The folders removed.
        """
        results = [place for place in self._places() if place.name not in keep]
        stale = [folder for folder in self._temporaries() if _age(folder) > STALE]
        for place in [] if dry_run else results:
            self.remove(place)
        for folder in [] if dry_run else stale:
            shutil.rmtree(folder, ignore_errors=True)
        return results + stale

    def drop_temporaries(self, processes: Iterable[int]) -> None:
        """Removes the temporary folders of processes of this machine that are known to be dead."""
        for process in processes:
            for folder in self._temporaries(f"{platform.node()}.{process}."):
                shutil.rmtree(folder, ignore_errors=True)

    def _stages(self) -> list[Path]:
        folders = [path for path in self.root.iterdir() if path.is_dir() and path.name.isidentifier()]
        return sorted(path for path in folders if path.name != "logs")

    def _places(self) -> Iterator[Path]:
        for stage in self._stages():
            yield from sorted(path for path in stage.glob("[0-9a-f][0-9a-f]/*") if len(path.name) == 64)

    def _temporaries(self, owner: str = "") -> list[Path]:
        return sorted(path for stage in self._stages() for path in stage.glob(f"[0-9a-f][0-9a-f]/.tmp.{owner}*"))


def _temporary(place: Path) -> Path:
    return place.parent / f".tmp.{platform.node()}.{os.getpid()}.{uuid.uuid4().hex[:12]}"


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # its owner has just finished
        return 0.0


def make_folder(path: Path) -> None:
    """Makes a folder of a store where it is missing.

    Raises:
        StoreError: It cannot be made.
    """
    with _usable(path):
        path.mkdir(parents=True, exist_ok=True)


def _check_format(root: Path) -> None:
    try:
        version = json.loads((root / "format.json").read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{root} is not a bitleak store: its format.json cannot be read ({error})") from error
    if version != FORMAT:
        raise StoreError(f"store {root} has format {version}, this bitleak reads format {FORMAT}: use a newer bitleak")


@contextlib.contextmanager
def _usable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"store {root} cannot be written to: {error.strerror or error}") from error


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    _write_text(temporary, text)
    temporary.replace(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
    flush(path)


def _move(temporary: Path, place: Path) -> None:
    """Renames; what is done already stays, what lies there without a manifest makes room."""
    flush(temporary)
    try:
        temporary.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if (place / "manifest.json").is_file():
            return
        place.rename(temporary.with_name(f"{temporary.name}.broken"))
        temporary.rename(place)
        shutil.rmtree(temporary.with_name(f"{temporary.name}.broken"), ignore_errors=True)
    flush(place.parent)


def _entry(place: Path) -> Entry:
    manifest = load_manifest(place)
    size = sum(file["size"] for file in manifest["files"].values())
    return Entry(place.parent.parent.name, place.name, place, size, manifest)


def _read(path: Path, file: Mapping[str, Any]) -> Artifact:
    try:
        reason = fault(path, file)
        if reason:
            raise ValueError(reason)
        return read_artifact(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        text = f"artifact {path} cannot be read ({error}): {ADVICE}"
        raise BrokenResult(text, path.parent.name) from error
