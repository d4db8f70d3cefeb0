"""Finished results from one store to another, as tar files that are checked before anything is taken.

```
<stage>/<first two digits of the key>/<key>/manifest.json
<stage>/<first two digits of the key>/<key>/*.npy, *.safetensors, *.json
```

Every result is whole in one file, its manifest first, so that each part of an export is good for itself. What
is brought is checked in a first pass over all files, and nothing is written before that has ended well:

* plain files alone: no links, no devices, no sparse files, nothing compressed, no further headers,
* names of the form above and no others, so no absolute paths and no `..`,
* a manifest whose task has the key that the folder is named after,
* exactly the files of the manifest, of the sizes it says, with the digests it says,
* the two blocks of zeros at the end: a file that was cut off is noticed.

The digests tell damage, not fraud: a manifest is not signed, so files should come from people you trust.
Nothing in them is ever executed or unpickled on the way in.
"""

import contextlib
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from bitleak.core import leftovers
from bitleak.core.disk import flush
from bitleak.core.errors import BrokenResult, StoreError
from bitleak.engine.keys import Task
from bitleak.engine.manifest import fault, parse_manifest
from bitleak.engine.store import Entry, Store

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 4 << 20
"""Bytes of a manifest at most."""

_NAME = re.compile(r"([A-Za-z_]\w*)/([0-9a-f]{2})/([0-9a-f]{64})/([A-Za-z0-9_][\w-]*\.(?:npy|safetensors|json))", re.A)
_CHUNK = 1 << 20

BATCH = 1024
"""Number of results at most that appear in the store after one wait for the disk."""

BATCH_BYTES = 256 << 20
"""Bytes of their files, beyond which a batch takes no more results."""

_EVERY = 256
"""Results between two reports of progress."""

OnStep = Callable[[float, str], None]
"""Called with the fraction done and what is being done."""


@dataclass(frozen=True)
class Taken:
    """What came out of an import.

    Attributes:
        new: Results that the store did not have.
        known: Results that it had.
        size: Bytes of the files of the new ones.
    """

    new: int
    known: int
    size: int


@dataclass(frozen=True)
class _File:
    """A file of a result: where its bytes are in the tar file, and what they must be."""

    name: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class _Result:
    """A result that has been checked."""

    path: Path
    task: Task
    manifest: bytes
    files: tuple[_File, ...]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)


def export_results(
    store: Store,
    path: Path,
    *,
    keys: Collection[str] | None = None,
    stages: Collection[str] = (),
    part_bytes: int | None = None,
    on_step: OnStep | None = None,
) -> list[Path]:
    """Writes results into one tar file, or several.

    Args:
        store: Where they are.
        path: The file. Of several parts, `x.tar` becomes `x-1-of-3.tar`, ...
        keys: Which tasks; None = all.
        stages: Of which stages; none = all.
        part_bytes: No file is larger than this; None = one file.
        on_step: Called with the fraction of the results written and `writing results`.

    Returns:
        The files, in order.

    Raises:
        StoreError: There is nothing to write, a result is larger than a part, a file exists or cannot be written.
        BrokenResult: A result is not as it was written.
    """
    entries = [
        entry for entry in store.ls() if (keys is None or entry.key in keys) and (not stages or entry.stage in stages)
    ]
    if not entries:
        raise StoreError(f"store {store.location} holds none of the results that are to be exported")
    parts = _parts(entries, part_bytes)
    width = len(str(len(parts)))
    names = [f"{path.stem}-{number:0{width}}-of-{len(parts)}{path.suffix}" for number in range(1, len(parts) + 1)]
    paths = [path.with_name(name) for name in names] if len(parts) > 1 else [path]
    for target in paths:
        if target.exists():
            raise StoreError(f"{target} exists: remove it, or give another name")
    step, written = on_step or _ignore, 0
    try:
        for target, part in zip(paths, parts, strict=True):
            for _ in _write_part(store, target, part):
                written += 1
                if written % _EVERY == 0 or written == len(entries):
                    step(written / len(entries), "writing results")
    except BaseException:  # some parts of an export would be taken for all of it
        for target in paths:
            target.unlink(missing_ok=True)
        raise
    return paths


def import_results(store: Store, paths: Sequence[Path], on_step: OnStep | None = None) -> Taken:
    """Checks tar files and, if all of them are as they should be, takes the results that the store does not have.

    Each result appears in the store at once or, when this is interrupted, not at all.

    Args:
        store: Where they go. A result in it that is damaged is replaced.
        paths: What `export_results` wrote, all parts or some.
        on_step: Called with the fraction done and what is being done: first `checking`, then `taking results`.

    Raises:
        StoreError: A file is not as it should be; nothing was taken. Or the store cannot be written to.
    """
    step = on_step or _ignore
    results = _all_checked(paths, step)
    wanted = list({result.task.key: result for result in results}.values())
    new = size = done = 0
    for batch in _batches(wanted):
        for result in batch:
            if store.has(result.task):
                store.discard(result.task)
        with contextlib.ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in {result.path for result in batch}}
            taken = store.adopt_all((result.task, partial(_extract, result, files[result.path])) for result in batch)
        new += len(taken)
        size += sum(result.size for result in batch if result.task.key in taken)
        done += len(batch)
        step(done / len(wanted), "taking results")
    return Taken(new, len(results) - new, size)


def _ignore(done: float, doing: str) -> None:
    """Report no progress."""


def _all_checked(paths: Sequence[Path], on_step: OnStep) -> list[_Result]:
    """The results in all files; nothing is taken before the last byte of the last file has been checked."""
    sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    total = max(1, sum(sizes))
    results: list[_Result] = []
    for place, path in enumerate(paths):
        results += _checked(path, partial(_checking_step, on_step, sum(sizes[:place]), total))
    return results


def _checking_step(on_step: OnStep, before: int, total: int, position: int) -> None:
    on_step((before + position) / total, "checking")


def _batches(results: Sequence[_Result]) -> Iterator[list[_Result]]:
    batch: list[_Result] = []
    size = 0
    for result in results:
        batch.append(result)
        size += result.size
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parts(entries: Sequence[Entry], limit: int | None) -> list[list[Entry]]:
    """The results in order, as many in each part as it holds."""
    parts: list[list[Entry]] = []
    room = 0
    for entry in entries:
        size = _archived(len(_manifest(entry)))
        size += sum(_archived(file["size"]) for file in entry.manifest["files"].values())
        if limit is not None and size > limit - _ends():
            raise StoreError(_too_large(entries, limit))
        if not parts or (limit is not None and size > room):
            parts.append([])
            room = (limit or 0) - _ends()
        parts[-1].append(entry)
        room -= size
    return parts


def _too_large(entries: Sequence[Entry], limit: int) -> str:
    largest = max(entries, key=lambda entry: entry.size)
    what = largest.manifest.get("label") or largest.key
    stages = ", ".join(sorted({entry.stage for entry in entries if entry.size < limit / 2}))
    return (
        f"{what} is a result of {largest.size / 1e6:.1f} MB, and no file may be larger than {limit / 1e6:.1f} MB: "
        f"raise --max-bytes, or name the stages that are to go with --stage (smaller here: {stages or 'none'})"
    )


def _archived(size: int) -> int:
    """Bytes that a file of a size takes in a tar file."""
    return tarfile.BLOCKSIZE * (1 - -size // tarfile.BLOCKSIZE)


def _ends() -> int:
    """Bytes at the end of a tar file, at most."""
    return tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE


def _manifest(entry: Entry) -> bytes:
    return json.dumps(entry.manifest, indent=1).encode()


def _write_part(store: Store, path: Path, entries: Sequence[Entry]) -> Iterator[Entry]:
    """Write a tar file; yields each result that is in it, and renames the file after the last."""
    temporary = path.with_name(leftovers.new_name(f".{path.name}."))
    leftovers.sweep(path.parent, f".{path.name}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for entry in entries:
                _add(archive, entry, MANIFEST, io.BytesIO(_manifest(entry)), len(_manifest(entry)))
                folder = store.folder(entry.path)
                for name, about in entry.manifest["files"].items():
                    reason = fault(folder / name, about, fresh=True)
                    if reason:
                        raise StoreError(f"artifact {folder / name} cannot be exported ({reason})")
                    with (folder / name).open("rb") as file:
                        _add(archive, entry, name, file, about["size"])
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


def _checked(path: Path, on_position: Callable[[int], None]) -> list[_Result]:
    """The results in a tar file, every byte of which has been looked at."""
    try:
        with path.open("rb") as file:
            _check_end(file)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                results = []
                for result in _results(path, archive, file):
                    results.append(result)
                    if len(results) % _EVERY == 0:
                        on_position(file.tell())
                return results
    except (OSError, tarfile.TarError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StoreError(f"{path} is not a tar file that can be read ({reason}); nothing was taken") from error
    except ValueError as error:
        raise StoreError(f"{path}: {error}; nothing was taken") from error


def _check_end(file: BinaryIO) -> None:
    end = 2 * tarfile.BLOCKSIZE
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - end))
    if size % tarfile.BLOCKSIZE or file.read(end) != bytes(end):
        raise ValueError("it was cut off, or is not a tar file: its end is missing")
    file.seek(0)


def _results(path: Path, archive: tarfile.TarFile, file: BinaryIO) -> Iterator[_Result]:
    members = iter(archive)
    seen: set[str] = set()
    for first in members:
        place, name = _place(first)
        if name != MANIFEST or place in seen:
            raise ValueError(f"{first.name}: a result must be in one piece, its manifest first")
        seen.add(place)
        if not 0 < first.size <= LARGEST_MANIFEST:
            raise ValueError(f"{first.name}: a manifest of {first.size} bytes")
        position = first.offset_data
        text = _read(file, position, first.size)
        task, expected = _task(first.name, text)
        found = []
        for _ in expected:
            member = next(members, None)
            if member is None:
                raise ValueError(f"{place} lacks files of its manifest")
            found.append(_file(member, place, expected, file))
        if len({each.name for each in found}) < len(found):
            raise ValueError(f"{place} holds a file twice")
        yield _Result(path, task, text, tuple(found))


def _place(member: tarfile.TarInfo) -> tuple[str, str]:
    """Folder and file name of a member that may be there."""
    shown = member.name[:200]
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or member.pax_headers:
        raise ValueError(f"{shown!r} is not a plain file (a link, a folder, a device, ...)")
    match = _NAME.fullmatch(member.name)
    if match is None or match[2] != match[3][:2] or match[1] == "logs":
        raise ValueError(f"{shown!r} is not the name of a file of a result")
    return member.name.rpartition("/")[0], match[4]


def _task(name: str, text: bytes) -> tuple[Task, dict[str, dict[str, Any]]]:
    """The task of a manifest and what it says of its files."""
    stage, _, key, _ = name.split("/")
    try:
        manifest = parse_manifest(text.decode("utf-8"), PurePosixPath(name).parent)
        if set(manifest["task"]) != {"stage", "version", "params", "inputs"}:
            raise ValueError("it does not name a task")
        task = Task(**manifest["task"])
        files = manifest["files"]
    except BrokenResult as error:
        raise ValueError(f"{name} is not a manifest ({error.__cause__})") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} is not a manifest ({type(error).__name__})") from error
    if (task.stage, task.key) != (stage, key):
        raise ValueError(f"{name}: its task is not the one that the folder is named after")
    return task, files


def _file(member: tarfile.TarInfo, place: str, expected: dict[str, dict[str, Any]], file: BinaryIO) -> _File:
    folder, name = _place(member)
    if folder != place or name not in expected or name == MANIFEST:
        raise ValueError(f"{member.name} is not one of the files of the manifest of {place}")
    size, sha256 = expected[name]["size"], expected[name]["sha256"]
    if member.size != size or size < 0:
        raise ValueError(f"{member.name}: expected {size} bytes, got {member.size}")
    position = file.tell()
    found = _digest(file, member.offset_data, size)
    file.seek(position)
    if found != sha256:
        raise ValueError(f"{member.name}: its content is not what was written")
    return _File(name, member.offset_data, size, sha256)


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Bytes at a place of a file, whose position stays as it is."""
    position = file.tell()
    file.seek(offset)
    content = file.read(size)
    file.seek(position)
    return content


def _chunks(file: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    file.seek(offset)
    while size > 0:
        content = file.read(min(size, _CHUNK))
        if not content:
            raise EOFError("it was cut off")
        size -= len(content)
        yield content


def _digest(file: BinaryIO, offset: int, size: int) -> str:
    found = hashlib.sha256()
    for content in _chunks(file, offset, size):
        found.update(content)
    return found.hexdigest()


def _extract(result: _Result, source: BinaryIO, folder: Path) -> None:
    """Writes the files of a result, the manifest last; they are checked again, for the tar file may have changed."""
    for file in result.files:
        found = hashlib.sha256()
        with (folder / file.name).open("wb") as target:
            for content in _chunks(source, file.offset, file.size):
                found.update(content)
                target.write(content)
        if found.hexdigest() != file.sha256:
            raise StoreError(f"{result.path} was changed while it was read")
    (folder / MANIFEST).write_bytes(result.manifest)
