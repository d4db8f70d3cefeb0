"""Writing results of a store into tar files of limited size."""

import io
import json
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from bitleak.core import leftovers
from bitleak.core.disk import flush
from bitleak.core.errors import StoreError
from bitleak.engine.backends.folder import MANIFEST
from bitleak.engine.manifest import fault
from bitleak.engine.store import Entry, Store

PACKED_PER_REPORT = 256
"""Results between two reports of progress."""


def export_results(
    store: Store,
    path: Path,
    *,
    keys: Collection[str] | None = None,
    stages: Collection[str] = (),
    part_bytes: int | None = None,
    on_step: Callable[[float, str], None] | None = None,
) -> list[Path]:
    """Write results into one tar file, or several.

    Args:
        store: The store that holds them.
        path: The file. Of several parts, `x.tar` becomes `x-1-of-3.tar`, ...
        keys: Keys of the tasks to export, or None for all.
        stages: Stages to export; all if empty.
        part_bytes: Largest size of a file, or None for one file of any size.
        on_step: Called with the fraction of the results written and `writing results`.

    Returns:
        The files, in order.

    Raises:
        StoreError: There is nothing to write, a result is larger than a part, a file exists or
            cannot be written.
        BrokenResult: A result is not as it was written.
    """
    entries = [
        entry
        for entry in store.ls()
        if (keys is None or entry.key in keys) and (not stages or entry.stage in stages)
    ]
    if not entries:
        raise StoreError(
            f"store {store.location} holds none of the results that are to be exported"
        )
    parts = _parts(entries, part_bytes)
    width = len(str(len(parts)))
    names = [
        f"{path.stem}-{number:0{width}}-of-{len(parts)}{path.suffix}"
        for number in range(1, len(parts) + 1)
    ]
    paths = [path.with_name(name) for name in names] if len(parts) > 1 else [path]
    for target in paths:
        if target.exists():
            raise StoreError(f"{target} exists: remove it, or give another name")
    written = 0
    try:
        for target, part in zip(paths, parts, strict=True):
            for _ in _write_part(store, target, part):
                written += 1
                if on_step and (written % PACKED_PER_REPORT == 0 or written == len(entries)):
                    on_step(written / len(entries), "writing results")
    except BaseException:  # some parts of an export would be taken for all of it
        for target in paths:
            target.unlink(missing_ok=True)
        raise
    return paths


def _parts(entries: Sequence[Entry], limit: int | None) -> list[list[Entry]]:
    """Split results, in order, into parts that are as full as the limit allows."""
    parts: list[list[Entry]] = []
    room = 0
    for entry in entries:
        size = _archived(len(_manifest(entry)))
        size += sum(_archived(file["size"]) for file in entry.manifest["files"].values())
        if limit is not None and size > limit - _end_size():
            raise StoreError(_too_large(entries, limit))
        if not parts or (limit is not None and size > room):
            parts.append([])
            room = (limit or 0) - _end_size()
        parts[-1].append(entry)
        room -= size
    return parts


def _too_large(entries: Sequence[Entry], limit: int) -> str:
    largest = max(entries, key=lambda entry: entry.size)
    name = largest.manifest.get("label") or largest.key
    stages = ", ".join(sorted({entry.stage for entry in entries if entry.size < limit / 2}))
    return (
        f"{name} is a result of {largest.size / 1e6:.1f} MB, and no file may be larger than {limit / 1e6:.1f} MB: "
        f"raise --max-bytes, or name the stages that are to go with --stage (smaller here: {stages or 'none'})"
    )


def _archived(size: int) -> int:
    """Return the bytes that a file of a size takes in a tar file."""
    return tarfile.BLOCKSIZE * (1 - -size // tarfile.BLOCKSIZE)


def _end_size() -> int:
    """Return the largest number of bytes at the end of a tar file."""
    return tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE


def _manifest(entry: Entry) -> bytes:
    return json.dumps(entry.manifest, indent=1).encode()


def _write_part(store: Store, path: Path, entries: Sequence[Entry]) -> Iterator[Entry]:
    """Write a tar file; yield each result that is in it, and rename the file after the last."""
    temporary = path.with_name(leftovers.new_name(f".{path.name}."))
    leftovers.sweep(path.parent, f".{path.name}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for entry in entries:
                _add(archive, entry, MANIFEST, io.BytesIO(_manifest(entry)), len(_manifest(entry)))
                folder = store.folder(entry.path)
                for name, expected in entry.manifest["files"].items():
                    reason = fault(folder / name, expected, fresh=True)
                    if reason:
                        raise StoreError(f"artifact {folder / name} cannot be exported ({reason})")
                    with (folder / name).open("rb") as file:
                        _add(archive, entry, name, file, expected["size"])
                yield entry
        flush(temporary)
        temporary.rename(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written to: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, entry: Entry, name: str, file: Any, size: int) -> None:
    member = tarfile.TarInfo(f"{entry.stage}/{entry.key[:2]}/{entry.key}/{name}")
    member.size, member.mode = size, 0o644
    archive.addfile(member, file)
