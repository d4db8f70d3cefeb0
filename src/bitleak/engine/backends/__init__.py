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
        """A folder of this machine for the logs of workers; nobody has made it."""

    def read_format(self) -> str | None:
        """What `write_format` wrote; None where there is nothing."""

    def write_format(self, text: str) -> None:
        """Writes the file that tells a store from any other folder."""

    def has(self, place: PurePath) -> bool:
        """Whether there is a manifest."""

    def find(self, key: str) -> PurePath | None:
        """The place of the task with this key, whatever its stage, if it has a manifest."""

    def places(self) -> Iterator[PurePath]:
        """All places, sorted, those without a manifest too."""

    def finished(self) -> frozenset[str] | None:
        """The keys of all places with a manifest, from one listing; None = asking one by one is as fast."""

    def manifests(self, places: Iterable[PurePath]) -> Iterator[tuple[PurePath, str]]:
        """The text of each manifest that can be read."""

    def folder(self, place: PurePath) -> Path:
        """A folder of this machine that holds the files as they were written, the manifest too.

        Raises:
            StoreError: One of them is missing, or is not what the manifest says.
        """

    def forget(self, place: PurePath) -> None:
        """Drops what `folder` gave if it is a copy: it was found damaged."""

    def inspected(self, place: PurePath) -> AbstractContextManager[Path]:
        """A folder named as the place, with the files as they are now, broken ones too."""

    def commit(self, place: PurePath, fill: Callable[[Path], None]) -> None:
        """Adds what `fill` puts into an empty folder: all of it or, when interrupted, nothing.

        The manifest is among it. What is there already stays.
        """

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return the names, `stage/first two digits/key`, of those places that have a manifest."""

    def commit_all(self, batches: Iterable[Mapping[str, Callable[[str], list[str]]]]) -> Iterator[int]:
        """Add many results as `commit` does: each is complete or absent at any moment and after any failure.

        Args:
            batches: Results that become visible together, by name as in `existing`, each with a function that writes
                all files of a result into a folder and returns their paths. It need not wait for the disk.

        Yields:
            The number of results of a batch, when it has been added; all are durable at the end.
        """

    def remove(self, place: PurePath) -> None:
        """Takes a place away, the manifest first."""

    def abandoned(self, seconds: float) -> list[PurePath]:
        """What the killed have left and nobody has touched for so long."""

    def discard(self, leftovers: Iterable[PurePath]) -> None:
        """Removes what `abandoned` named."""

    def drop_temporaries(self, processes: Iterable[int]) -> None:
        """Removes what processes of this machine have left, which are known to be dead."""

    def sweep(self) -> None:
        """Removes what killed processes of this machine have left, whichever they were; as far as that can be."""

    def keep_log(self, name: str, text: str) -> str:
        """Writes a log; returns where it is, for people."""

    def drop_log(self, name: str) -> None:
        """Removes a log if there is one."""

    def free(self) -> int | None:
        """Free bytes; None where there is no telling."""
