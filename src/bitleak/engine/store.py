"""The store: results of finished tasks, in places named by their keys.

A result is all there or not at all: a manifest exists = the task is done. Two writers of one task
write the same; the second is dropped. The manifest records the task, its environment, and a size
and SHA-256 digest per file. `bitleak.engine.backends` stores the files, and makes a result appear
at once: `folder` for a path, `bucket` for a URL.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bitleak.core.errors import BrokenResult, StoreError
from bitleak.engine.artifacts import Artifact, read_artifact, write_artifact
from bitleak.engine.backends import Backend
from bitleak.engine.backends.bucket import Bucket
from bitleak.engine.backends.folder import MANIFEST, Folder, make_folder, write_text
from bitleak.engine.claims import Claim, Claims
from bitleak.engine.graph import Shelf
from bitleak.engine.keys import Task
from bitleak.engine.manifest import (
    ADVICE,
    Problem,
    fault,
    load_manifest,
    new_manifest,
    parse_manifest,
    problems,
)

__all__ = ["Entry", "Store", "is_url", "make_folder", "shared"]

FORMAT = 1
STALE = 3600.0
"""Seconds after which a temporary folder is taken for abandoned."""


@dataclass(frozen=True)
class Entry:
    """A finished task in the store.

    Attributes:
        stage: Its stage.
        key: Its key.
        path: Its place: a folder, unless the store is a URL.
        size: Bytes of its files, without the manifest.
        manifest: Everything recorded: `task`, `label`, `runtime`, `files`, `created`.
    """

    stage: str
    key: str
    path: PurePath
    size: int
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """The finished tasks of a store when it was last listed.

    Attributes:
        keys: Keys of the finished tasks.
    """

    keys: frozenset[str]

    def has(self, task: Task) -> bool:
        """Return whether the task was done."""
        return task.key in self.keys


class Store:
    """Results of tasks in a folder or under a URL.

    Args:
        location: A path, or a URL that fsspec knows: `s3://bucket/prefix`, `gs://...`,
            `memory://...` (this process alone); `file:///path` is the path.
        create: Make it where it is missing, and insist on being able to write to it.

    Attributes:
        location: The path or URL, as text: all that a worker needs.
        root: Where all places are; a `Path` if the store is a folder.

    Raises:
        StoreError: It is not a folder, not a store, not writable, or of a newer format; or its
            protocol is not known.
    """

    def __init__(self, location: str | Path, *, create: bool = True) -> None:
        self.location = str(location).removeprefix("file://")
        if not self.location.strip():
            raise StoreError("store: expected a folder or a URL, got an empty name")
        url = is_url(self.location)
        self._files: Backend = (
            Bucket(self.location) if url else Folder(Path(self.location), create=create)
        )
        self.root: PurePath = self._files.root
        try:
            text = self._files.read_format()
            if text is None and create:
                text = json.dumps({"format": FORMAT})
                self._files.write_format(text)
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(
                f"{self.location} is not a bitleak store: its format.json: {error}"
            ) from error
        _check_format(self.location, text)

    @property
    def logs(self) -> Path:
        """The folder of this machine for the logs of workers; it may be missing."""
        return self._files.logs

    def path(self, task: Task) -> PurePath:
        """Where the task's result is or will be; a `Path` if the store is a folder."""
        return self.root / task.stage / task.key[:2] / task.key

    def has(self, task: Task) -> bool:
        """Return whether the task is done."""
        return self._files.has(self.path(task))

    def snapshot(self) -> Shelf:
        """Return an object that answers `has` for many tasks: the store or, for a URL, a
        listing.
        """
        keys = self._files.finished()
        return self if keys is None else Snapshot(keys)

    def find(self, key: str) -> PurePath | None:
        """Return the place of the finished task with a key, in any stage, or None."""
        return self._files.find(key)

    def folder(self, place: PurePath) -> Path:
        """Return a folder of this machine with the files of a finished task: its place, or a
        checked copy.

        Raises:
            StoreError: Under a URL: a file is missing, or differs from its digest.
        """
        return self._files.folder(place)

    def manifests(self, tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
        """Return the readable manifests of the finished tasks among these, by key."""
        done = self.snapshot()
        places = [self.path(task) for task in tasks if done.has(task)]
        manifests = {}
        for place, text in self._files.manifests(places):
            with contextlib.suppress(
                StoreError
            ):  # it is damaged: reading its result raises the error
                manifests[place.name] = parse_manifest(text, place)
        return manifests

    def write(
        self, task: Task, artifacts: Mapping[str, Artifact], runtime: Mapping[str, Any]
    ) -> PurePath:
        """Commit the result of a task: all of it or, when interrupted, nothing.

        Args:
            task: The finished task.
            artifacts: Arrays, mappings of arrays, and JSON values by name.
            runtime: Record of machine and cost: JSON values.

        Returns:
            Its place; a result that another writer committed before stays as it is.

        Raises:
            StoreError: The disk is full, or the store cannot be written to.
            TypeError, ValueError: An artifact cannot be stored.
        """

        def fill(folder: Path) -> None:
            files = [write_artifact(folder, name, value) for name, value in artifacts.items()]
            write_text(folder / MANIFEST, json.dumps(new_manifest(task, files, runtime), indent=1))

        place = self.path(task)
        if not self._files.has(place):
            self._files.commit(place, fill)
        return place

    def intact(self, names: Iterable[str]) -> set[str]:
        """Return the names of finished results, after damaged ones have been removed.

        Args:
            names: Results to look for, each as `stage/first two digits of the key/key`.

        Raises:
            StoreError: A damaged result cannot be removed.
        """
        return {
            name for name in self._files.existing(names) if not self._discarded(self.root / name)
        }

    def adopt_all(
        self, batches: Iterable[Mapping[str, Callable[[str], list[str]]]]
    ) -> Iterator[int]:
        """Commit many results made elsewhere, each of them whole or not at all, in a few waits for
        the disk.

        Args:
            batches: Results that appear after one wait: name as in `intact`, with a function that
                writes all files of a result, the manifest too, into a folder and returns their
                paths; it need not flush them.

        Yields:
            The number of results of each batch, when it has appeared; all are durable at the end.

        Raises:
            StoreError: The disk is full, or the store cannot be written to.
        """
        return self._files.commit_all(batches)

    def read(self, task: Task) -> dict[str, Artifact]:
        """Return the artifacts of a finished task by name; arrays may be read-only memory maps.

        Raises:
            BrokenResult: It is not done, or one of its files is missing or not as it was written.
        """
        return self.read_key(task.key)

    def read_key(self, key: str) -> dict[str, Artifact]:
        """Read the artifacts of a finished task by key, as `read` does."""
        place = self.find(key)
        if place is None:
            raise BrokenResult(f"store {self.location} holds no finished task {key}", key)
        folder = self.folder(place)
        try:
            files = load_manifest(folder)["files"]
            return {Path(name).stem: _read(folder / name, file) for name, file in files.items()}
        except BrokenResult:
            self._files.forget(place)
            raise

    def ls(self) -> list[Entry]:
        """Return all finished tasks whose manifest can be read, by stage and key."""
        return self.inventory()[0]

    def inventory(self) -> tuple[list[Entry], int]:
        """Return all finished tasks whose manifest can be read, and the number of others."""
        places = list(self._files.places())
        entries = []
        for place, text in self._files.manifests(places):
            with contextlib.suppress(StoreError):
                entries.append(_entry(place, parse_manifest(text, place)))
        return entries, len(places) - len(entries)

    def sizes(self, entries: Iterable[Entry] | None = None) -> dict[str, tuple[int, int]]:
        """Return the number of finished tasks and bytes of their files per stage.

        Args:
            entries: Tasks to count, or None for all.
        """
        totals: dict[str, tuple[int, int]] = {}
        for entry in self.ls() if entries is None else entries:
            count, size = totals.get(entry.stage, (0, 0))
            totals[entry.stage] = (count + 1, size + entry.size)
        return totals

    def verify(self) -> list[Problem]:
        """Read every file of every task and return all damage."""
        damage = []
        for place in self._files.places():
            with self._files.inspected(place) as folder:
                damage += [
                    Problem(place, place / broken.path.name, broken.reason)
                    for broken in problems(folder)
                ]
        return damage

    def remove(self, place: PurePath) -> None:
        """Take a result out of the store, so that it is made again when it is needed."""
        self._files.remove(place)

    def place_of(self, digits: str) -> PurePath:
        """Return the place of the one result whose key begins with these digits, damaged or not.

        Raises:
            StoreError: They are not 8 to 64 hexadecimal digits, or there is no such result, or
                several.
        """
        if not 8 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
            raise StoreError(
                f"a key is 64 hexadecimal digits, of which 8 or more are needed, got {digits[:80]!r}"
            )
        places = [place for place in self._files.places() if place.name.startswith(digits)]
        if len(places) != 1:
            raise StoreError(
                f"store {self.location} holds {len(places)} results whose key begins with {digits}"
            )
        return places[0]

    def discard(self, task: Task) -> None:
        """Take a damaged result out of the store; one that is as it was written, by now, stays.

        Raises:
            StoreError: It cannot be removed.
        """
        self._discarded(self.path(task))

    def _discarded(self, place: PurePath) -> bool:
        """Remove a place if its files are not as they were written, and return whether it was."""
        with self._files.inspected(place) as folder:
            damaged = folder.exists() and any(problems(folder))
        if damaged:
            self.remove(place)
        return damaged

    def gc(self, keep: Collection[str], *, dry_run: bool = False) -> list[PurePath]:
        """Remove all results except those to keep, and the files of killed processes.

        Args:
            keep: Keys of tasks.
            dry_run: Report the results, but do not remove them.

        Returns:
            The places removed, and leftovers.

        Raises:
            StoreError: A run is using the store; not where nothing would be removed.
        """
        if not dry_run and isinstance(self.root, Path):
            _refuse_while_used(self.location, Claims(self.root).living())
        results = [place for place in self._files.places() if place.name not in keep]
        stale = [path for path in self._files.abandoned(STALE) if path.parent not in results]
        if not dry_run:
            for place in results:
                self.remove(place)
            self._files.discard(stale)
        return results + stale

    def drop_temporaries(self, processes: Iterable[int]) -> None:
        """Remove half results of processes of this machine that are known to be dead."""
        self._files.drop_temporaries(processes)

    def sweep(self) -> None:
        """Remove half results and claims of killed runs on this machine, never a live run's."""
        self._files.sweep()
        if isinstance(self.root, Path):
            with contextlib.suppress(OSError):
                Claims(self.root).sweep()

    def keep_log(self, name: str, text: str) -> str:
        """Write a log; return its path or URL."""
        return self._files.keep_log(name, text)

    def drop_log(self, name: str) -> None:
        """Remove a log if there is one."""
        self._files.drop_log(name)

    def free(self) -> int | None:
        """Return the free bytes, or None if they are not known."""
        return self._files.free()


def shared(location: str | Path) -> Store:
    """Return a store that other processes will use too.

    Raises:
        StoreError: Only this process sees it, or it cannot be used.
    """
    if str(location).startswith("memory://"):
        raise StoreError(
            f"store {location}: no other process sees it; use the executor serial, or another store"
        )
    return Store(location, create=False)


def is_url(location: str | Path) -> bool:
    """Return whether a store is not a folder of this machine.

    Example:
        >>> [is_url(one) for one in ("bitleak-store", "file:///shared/store", "s3://bucket/store")]
        [False, False, True]
    """
    return "://" in str(location) and not str(location).startswith("file://")


def _check_format(location: str, text: str | None) -> None:
    try:
        if text is None:
            raise FileNotFoundError("there is none")
        version = json.loads(text)["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{location} is not a bitleak store: its format.json cannot be read ({error})"
        ) from error
    if version != FORMAT:
        raise StoreError(
            f"store {location} has format {version}, this bitleak reads format {FORMAT}: use a newer bitleak"
        )


def _refuse_while_used(location: str, living: list[Claim]) -> None:
    if living:
        owners = sorted(
            {f"process {claim.process} on {claim.host or 'another machine'}" for claim in living}
        )
        raise StoreError(
            f"store {location}: {len(living)} of its tasks are being done now (by {', '.join(owners)}), and what a run "
            "needs would be removed; wait until it has ended, or end it"
        )


def _entry(place: PurePath, manifest: dict[str, Any]) -> Entry:
    size = sum(file["size"] for file in manifest["files"].values())
    return Entry(place.parent.parent.name, place.name, place, size, manifest)


def _read(path: Path, file: Mapping[str, Any]) -> Artifact:
    try:
        reason = fault(path, file)
        if reason:
            raise ValueError(reason)
        return read_artifact(path)
    except (OSError, ValueError) as error:
        text = f"artifact {path} cannot be read ({error}): {ADVICE}"
        raise BrokenResult(text, path.parent.name) from error
