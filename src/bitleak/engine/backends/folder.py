"""A store in a folder: a result is written beside its place and moved there by one rename.

```
ROOT/format.json
ROOT/logs/<name>.log
ROOT/<stage>/<first two digits of the key>/<key>/{manifest.json, *.npy, *.safetensors, *.json}
```

A killed process leaves a temporary folder, which no reader takes for a result.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePath

from bitleak.core import leftovers
from bitleak.core.disk import Barrier, flush
from bitleak.core.errors import StoreError
from bitleak.engine.manifest import read_text

MANIFEST = "manifest.json"
WORKER_LOG = "worker-"
"""How the names of the logs begin that workers write while they live; the owner follows."""

_TEMPORARY = ".tmp."


class Folder:
    """The files of a store in a folder.

    Args:
        root: The folder.
        create: Make it where it is missing, and insist on being able to write to it.

    Raises:
        StoreError: It is not a folder, or cannot be written to.
    """

    def __init__(self, root: Path, *, create: bool) -> None:
        self.root = root
        self.logs = root / "logs"
        if root.exists() and not root.is_dir():
            raise StoreError(f"store {root} must be a folder, but it is a file")
        if create:
            with store_errors(root):
                root.mkdir(parents=True, exist_ok=True)
                if not os.access(root, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, "no permission to write")

    def read_format(self) -> str | None:
        """Return the text of `write_format`, or None if there is none."""
        path = self.root / "format.json"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write_format(self, text: str) -> None:
        """Write the file that tells a store from any other folder."""
        path = self.root / "format.json"
        temporary = path.with_name(leftovers.new_name(_TEMPORARY))
        try:
            with store_errors(self.root):
                write_text(temporary, text)
                temporary.replace(path)
        finally:
            leftovers.remove_path(temporary)

    def has(self, place: PurePath) -> bool:
        """Return whether there is a manifest."""
        return Path(place, MANIFEST).is_file()

    def find(self, key: str) -> PurePath | None:
        """Return the place of the task with this key, of any stage, if it has a manifest."""
        # Texts, since a `Path` takes as long as a system call, and steps read dozens of results.
        for stage in sorted(self._stage_names()):
            place = f"{self.root}/{stage}/{key[:2]}/{key}"
            if os.path.isfile(f"{place}/{MANIFEST}"):
                return Path(place)
        return None

    def places(self) -> Iterator[PurePath]:
        """Yield all places, sorted, those without a manifest too."""
        for stage in self._stages():
            yield from sorted(
                path for path in stage.glob("[0-9a-f][0-9a-f]/*") if len(path.name) == 64
            )

    def finished(self) -> None:
        """Return None: a look at each place is as fast."""

    def manifests(self, places: Iterable[PurePath]) -> Iterator[tuple[PurePath, str]]:
        """Yield the text of each manifest that can be read."""
        for place in places:
            try:
                text = read_text(Path(place, MANIFEST))
            except (OSError, ValueError):
                continue
            yield place, text

    def folder(self, place: PurePath) -> Path:
        """Return the place; that its files are as they should be is checked as they are read."""
        return Path(place)

    def forget(self, place: PurePath) -> None:
        """Do nothing: there are no copies."""

    @contextlib.contextmanager
    def inspected(self, place: PurePath) -> Iterator[Path]:
        """The place."""
        yield Path(place)

    def commit(self, place: PurePath, fill: Callable[[Path], None]) -> None:
        """Add the files that `fill` writes into an empty folder: all or, when interrupted, none."""
        temporary = _temporary(Path(place))
        try:
            with store_errors(self.root):
                temporary.mkdir(parents=True)
                fill(temporary)
                _move(temporary, Path(place))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return the names of those places that have a manifest."""
        return [name for name in names if os.path.isfile(f"{self.root}/{name}/{MANIFEST}")]

    def commit_all(
        self, batches: Iterable[Mapping[str, Callable[[str], list[str]]]]
    ) -> Iterator[int]:
        """Add many results, each as a whole; the disk is waited for once per batch, while the next
        one is written.

        All files of a batch and their folders reach the disk before the first of them is renamed,
        so that a power failure at any moment leaves no place with a manifest and damaged or missing
        files. Paths are texts, since a `Path` takes as long as a system call.
        """
        staged: dict[str, str] = {}
        parents: set[str] = set()
        try:
            with (
                store_errors(self.root),
                Barrier(self.root) as barrier,
                ThreadPoolExecutor(1) as pool,
            ):
                batch: dict[str, str] = {}
                durable: Future[None] | None = None
                for results in batches:
                    # Everything is written beside its place ...
                    folders = {f"{self.root}/{name.rpartition('/')[0]}" for name in results}
                    written, following = self._stage(results, folders, staged)
                    # ... is durable ...
                    if durable is not None:
                        durable.result()
                    durable, batch, previous = (
                        pool.submit(barrier.wait, written, folders),
                        following,
                        batch,
                    )
                    parents |= folders
                    # ... and only then gets its name.
                    if previous:
                        yield _place(previous, staged)
                if durable is not None:
                    durable.result()
                    yield _place(batch, staged)
                # The names, and those of new folders, are waited for at the end.
                above = {os.path.dirname(parent) for parent in parents} | {str(self.root)}
                barrier.wait(parents | above, parents)
        finally:
            for temporary in staged:
                shutil.rmtree(temporary, ignore_errors=True)

    def _stage(
        self,
        results: Mapping[str, Callable[[str], list[str]]],
        folders: Iterable[str],
        staged: dict[str, str],
    ) -> tuple[list[str], dict[str, str]]:
        """Write results into temporary folders, which are added to `staged` first.

        Returns:
            All paths written, and the places of the temporary folders.
        """
        prefix = leftovers.new_name(_TEMPORARY)
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
        written: list[str] = []
        batch: dict[str, str] = {}
        for number, (name, fill) in enumerate(results.items()):
            place = f"{self.root}/{name}"
            temporary = f"{place.rpartition('/')[0]}/{prefix}-{number}"
            batch[temporary] = staged[temporary] = place
            os.mkdir(temporary)
            written += fill(temporary)
            written.append(temporary)
        return written, batch

    def remove(self, place: PurePath) -> None:
        """Take a place away."""
        temporary = _temporary(Path(place))
        with store_errors(self.root):
            Path(place).rename(temporary)  # first: half a result must not keep its manifest
            shutil.rmtree(temporary)

    def abandoned(self, seconds: float) -> list[PurePath]:
        """Return temporary folders that have not changed for that many seconds."""
        return [folder for folder in self._temporaries() if _age(folder) > seconds]

    def discard(self, leftovers: Iterable[PurePath]) -> None:
        """Remove the paths that `abandoned` returned."""
        for folder in leftovers:
            shutil.rmtree(Path(folder), ignore_errors=True)

    def drop_temporaries(self, processes: Iterable[int]) -> None:
        """Remove the temporary folders of processes of this machine that are known to be dead."""
        with contextlib.suppress(OSError):
            for number in processes:
                self.discard(self._temporaries(f"{leftovers.place()}.{number}."))

    def sweep(self) -> None:
        """Remove half results and logs of workers of killed processes of this machine."""
        with contextlib.suppress(OSError):
            for folder in self._folders():
                leftovers.sweep(folder, _TEMPORARY)
            leftovers.sweep(self.root, _TEMPORARY)
            leftovers.sweep(self.logs, WORKER_LOG)

    def keep_log(self, name: str, text: str) -> str:
        """Write a log; return its path."""
        make_folder(self.logs)
        path = self.logs / f"{name}.log"
        with store_errors(self.root):
            path.write_text(text, encoding="utf-8")
        return str(path)

    def drop_log(self, name: str) -> None:
        """Remove a log if there is one."""
        with store_errors(self.root):
            (self.logs / f"{name}.log").unlink(missing_ok=True)

    def free(self) -> int | None:
        """Return the free bytes."""
        return shutil.disk_usage(self.root).free

    def _stages(self) -> list[Path]:
        return sorted(self.root / name for name in self._stage_names())

    def _stage_names(self) -> list[str]:
        """Return the names of the folders that hold results, in any order."""
        names = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.isidentifier() and entry.name != "logs" and entry.is_dir():
                    names.append(entry.name)
        return names

    def _folders(self) -> Iterator[Path]:
        """Yield the folders that hold results and temporary folders."""
        for stage in self._stages():
            yield from sorted(stage.glob("[0-9a-f][0-9a-f]"))

    def _temporaries(self, owner: str = "") -> list[Path]:
        paths: list[Path] = []
        for folder in self._folders():
            paths += sorted(folder.glob(f"{_TEMPORARY}{owner}*"))
        return paths


def make_folder(path: Path) -> None:
    """Make a folder of a store where it is missing.

    Raises:
        StoreError: It cannot be made.
    """
    with store_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a line of text, to the disk and not only to its cache."""
    path.write_text(text + "\n", encoding="utf-8")
    flush(path)


@contextlib.contextmanager
def store_errors(root: Path) -> Iterator[None]:
    """Turn an error of the file system into one that names the store."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"store {root} cannot be written to: {error.strerror or error}") from error


def _temporary(place: Path) -> Path:
    return place.parent / leftovers.new_name(_TEMPORARY)


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # its owner has just finished
        return 0.0


def _move(temporary: Path, place: Path) -> None:
    """Rename, and wait for the disk before and after."""
    flush(temporary)
    _rename(temporary, place)
    flush(place.parent)


def _place(batch: Mapping[str, str], staged: dict[str, str]) -> int:
    """Give durable folders their names, and return their number."""
    for temporary, place in batch.items():
        if _rename(temporary, place):
            del staged[temporary]
    return len(batch)


def _rename(temporary: str | Path, place: str | Path) -> bool:
    """Rename a folder unless the place has a finished result; a place without a manifest makes
    room.

    Returns:
        Whether it was renamed.
    """
    try:
        os.rename(temporary, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if os.path.isfile(f"{place}/{MANIFEST}"):
            return False
        os.rename(place, f"{temporary}.broken")
        os.rename(temporary, place)
        shutil.rmtree(f"{temporary}.broken", ignore_errors=True)
    return True
