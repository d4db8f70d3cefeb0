"""The seam between a store and the places where its files are.

```
folder   a folder of this machine, or one that machines share
bucket   objects under a URL, through fsspec: S3, Google Storage, memory, ...
```
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import Protocol


class Backend(Protocol):
    """Keeps the files of finished tasks.

    A place is where the files of one task are: `root / stage / first two digits of the key / key`.
    It counts only if it holds a manifest, which is written last. A place is a `Path`, and can be
    looked at, only where the root is one; elsewhere it is a name.

    Every method raises `StoreError` where the files cannot be reached or written.
    """

    @property
    def root(self) -> PurePath:
        """Where all places are."""

    @property
    def logs(self) -> Path:
        """A folder of this machine for the logs of workers; it may be missing."""

    def read_format(self) -> str | None:
        """Return the text of `write_format`, or None if there is none."""

    def write_format(self, text: str) -> None:
        """Write the file that tells a store from any other folder."""

    def has(self, place: PurePath) -> bool:
        """Return whether there is a manifest."""

    def find(self, key: str) -> PurePath | None:
        """Return the place of the task with this key, of any stage, if it has a manifest."""

    def places(self) -> Iterator[PurePath]:
        """Return all places, sorted, those without a manifest too."""

    def finished(self) -> frozenset[str] | None:
        """Return the keys of all places with a manifest, or None if a look at each is as fast."""

    def manifests(self, places: Iterable[PurePath]) -> Iterator[tuple[PurePath, str]]:
        """Return the text of each manifest that can be read."""

    def folder(self, place: PurePath) -> Path:
        """Return a folder of this machine that holds the files as they were written, the manifest
        too.

        Raises:
            StoreError: One of them is missing, or differs from the manifest.
        """

    def forget(self, place: PurePath) -> None:
        """Drop the folder that `folder` returned if it is a copy: it is damaged."""

    def inspected(self, place: PurePath) -> AbstractContextManager[Path]:
        """Return a folder named as the place, with the files as they are now, broken ones too."""

    def commit(self, place: PurePath, fill: Callable[[Path], None]) -> None:
        """Add the files that `fill` writes into an empty folder: all or, when interrupted, none.

        The manifest is part of it. An existing result stays.
        """

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return the names, `stage/first two digits/key`, of those places that have a manifest."""

    def commit_all(
        self, batches: Iterable[Mapping[str, Callable[[str], list[str]]]]
    ) -> Iterator[int]:
        """Add many results as `commit` does: each is complete or absent at any moment and after any
        failure.

        Args:
            batches: Results that become visible together, by name as in `existing`, each with a
                function that writes all files of a result into a folder and returns their paths. It
                need not wait for the disk.

        Yields:
            The number of results of a batch, when it has been added; all are durable at the end.
        """

    def remove(self, place: PurePath) -> None:
        """Take a place away, the manifest first."""

    def abandoned(self, seconds: float) -> list[PurePath]:
        """Return temporary files that have not changed for that many seconds."""

    def discard(self, leftovers: Iterable[PurePath]) -> None:
        """Remove the paths that `abandoned` returned."""

    def drop_temporaries(self, processes: Iterable[int]) -> None:
        """Remove temporary files of processes of this machine that are known to be dead."""

    def sweep(self) -> None:
        """Remove temporary files of all killed processes of this machine, as far as possible."""

    def keep_log(self, name: str, text: str) -> str:
        """Write a log; return its path or URL."""

    def drop_log(self, name: str) -> None:
        """Remove a log if there is one."""

    def free(self) -> int | None:
        """Return the free bytes, or None if they are not known."""
