"""Taking the results in checked tar files into a store, many after one wait for the disk."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bitleak.core.errors import StoreError
from bitleak.engine.backends.folder import MANIFEST
from bitleak.engine.store import Store
from bitleak.engine.transfer.tar_check import CHUNK, PackedFile, PackedResult, check_tar

BATCH_RESULTS = 1024
"""Number of results at most that appear in the store after one wait for the disk."""

BATCH_BYTES = 256 << 20
"""Bytes of their files, beyond which a batch takes no more results."""

OnFraction = Callable[[float, str], None]
"""Called with the fraction done and the name of the pass."""


@dataclass(frozen=True)
class Imported:
    """Counts of an import.

    Attributes:
        new: Results that the store did not have.
        known: Results that it had.
        size: Bytes of the files of the new ones.
    """

    new: int
    known: int
    size: int


def import_results(
    store: Store, paths: Sequence[Path], on_step: OnFraction | None = None
) -> Imported:
    """Check tar files and, if all of them are intact, take the results that the store does not
    have.

    Each result appears in the store at once or, when this is interrupted, not at all.

    Args:
        store: The store that takes them. A result in it that is damaged is replaced.
        paths: Files of `export_results`, all parts or some.
        on_step: Called with the fraction done of each pass: first `checking`, then `taking
            results`.

    Raises:
        StoreError: A file is not intact; nothing was taken. Or the store cannot be written to.
    """
    step = on_step or _ignore
    results = _check_all(paths, step)
    by_name = {result.name: result for result in results}
    known = store.intact(by_name)
    new = [result for name, result in by_name.items() if name not in known]
    done = len(known)
    for count in store.adopt_all(_fills(new)):
        done += count
        step(done / len(by_name), "taking results")
    return Imported(len(new), len(results) - len(new), sum(result.size for result in new))


def _ignore(done: float, doing: str) -> None:
    """Report no progress."""


def _check_all(paths: Sequence[Path], on_step: OnFraction) -> list[PackedResult]:
    """Return the results in all files, after the last byte of the last file has been checked."""
    sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    total = max(1, sum(sizes))
    results: list[PackedResult] = []
    for place, path in enumerate(paths):
        results += check_tar(path, partial(_report_check, on_step, sum(sizes[:place]), total))
    return results


def _report_check(on_step: OnFraction, before: int, total: int, position: int) -> None:
    on_step((before + position) / total, "checking")


def _fills(results: Sequence[PackedResult]) -> Iterator[dict[str, Callable[[str], list[str]]]]:
    """Yield batches of results, each with a function to write it, which works until the next
    batch.
    """
    for batch in _batches(results):
        with contextlib.ExitStack() as stack:
            files: dict[Path, int] = {}
            for item in batch:
                if item.path not in files:
                    files[item.path] = stack.enter_context(item.path.open("rb")).fileno()
            yield {item.name: partial(_extract, item, files[item.path]) for item in batch}


def _batches(results: Sequence[PackedResult]) -> Iterator[list[PackedResult]]:
    batch: list[PackedResult] = []
    size = 0
    for result in results:
        batch.append(result)
        size += result.size
        if len(batch) >= BATCH_RESULTS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _extract(result: PackedResult, source: int, folder: str) -> list[str]:
    """Write the files of a result, the manifest last, and return their paths.

    They are compared with their digests again, for the tar file may have changed.
    """
    paths = []
    for file in result.files:
        path = f"{folder}/{file.name}"
        if _copy(source, file, path) != file.sha256:
            raise StoreError(f"{result.path} was changed while it was read")
        paths.append(path)
    path = f"{folder}/{MANIFEST}"
    descriptor = _create(path)
    try:
        _write(descriptor, result.manifest)
    finally:
        os.close(descriptor)
    return [*paths, path]


def _copy(source: int, file: PackedFile, path: str) -> str:
    """Write a file of a tar file to a new path, and return its digest."""
    digest = hashlib.sha256()
    place, end = file.offset, file.offset + file.size
    descriptor = _create(path)
    try:
        while place < end:
            content = os.pread(source, min(CHUNK, end - place), place)
            if not content:
                break  # it was cut off since: the digest will differ
            digest.update(content)
            _write(descriptor, content)
            place += len(content)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)


def _write(descriptor: int, content: bytes) -> None:
    written = os.write(descriptor, content)
    while written < len(content):  # a file system may take a part at a time
        written += os.write(descriptor, content[written:])
