"""A store under a URL: objects that fsspec reads and writes, and copies of them on this machine.

```
URL/format.json
URL/logs/<name>.log
URL/<stage>/<first two digits of the key>/<key>/manifest.json
URL/<stage>/<first two digits of the key>/<key>/<first 16 digits of the digest>.<name of the file>
```

Objects cannot be renamed together, and need not be: the files go first, the manifest last, and a
reader without a manifest sees nothing. Since an object is named by its content, two writers of one
task never mix theirs, and a reader during the second commit gets one of them as a whole.

Stages map large arrays, so a result is copied to a cache of this machine before it is read: once
for all workers here, checked against the digests on its way, and removed when others need the room.
"""

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from bitleak.core.disk import flush_all
from bitleak.core.errors import BrokenResult, StoreError
from bitleak.core.leftovers import temporary_folder
from bitleak.engine.backends.folder import MANIFEST, Folder, make_folder, write_text
from bitleak.engine.manifest import ADVICE, fault, parse_manifest

CACHE_BYTES = 20 << 30
"""What the copies on this machine may take; beyond it, those not used for longest go."""

RESTING = 600.0
"""Seconds for which a copy that was asked for is not removed."""

EXTRAS = {"s3": "bitleak[s3]", "s3a": "bitleak[s3]", "gs": "bitleak[gs]", "gcs": "bitleak[gs]"}
"""The extra that brings the package for a protocol."""

_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "tos", "memory"}


class Bucket:
    """The files of a store under a URL.

    Args:
        url: Protocol, bucket and prefix: `s3://bucket/prefix`.
        cache: Folder for the copies on this machine; None = one in the folder for temporary files.

    Raises:
        StoreError: The protocol is not known, or the package for it is missing.
    """

    def __init__(self, url: str, *, cache: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._fs, path = _file_system(self.url)
        self.root = PurePosixPath(path)
        self._cache = Folder(cache or _default_cache(self.url), create=True)
        self.logs = self._cache.logs
        self._recent: list[str] = []

    def read_format(self) -> str | None:
        """Return the text of `write_format`, or None if there is none."""
        return self._text(self.root / "format.json")

    def write_format(self, text: str) -> None:
        """Write the object that tells a store from any other prefix."""
        self._write(self.root / "format.json", text)

    def has(self, place: PurePath) -> bool:
        """Return whether there is a manifest."""
        return bool(self._ask(self._fs.exists, str(place / MANIFEST)))

    def find(self, key: str) -> PurePath | None:
        """Return the place of the task with this key, of any stage, if it has a manifest.

        A copy on this machine needs no request. Otherwise the stage of the last answer is tried
        first: the inputs of a task are mostly of one stage.
        """
        known = self._cache.find(key)
        if known is not None:
            return self.root / Path(known).relative_to(self._cache.root)
        for stages in (list(self._recent), self._stages()):
            for stage in stages:
                place = self.root / stage / key[:2] / key
                if self.has(place):
                    rest = [recent for recent in self._recent if recent != stage]
                    self._recent = [stage, *rest]
                    return place
        return None

    def places(self) -> Iterator[PurePath]:
        """Yield all places, sorted, those without a manifest too."""
        yield from sorted({path.parent for path in self._objects()})

    def finished(self) -> frozenset[str]:
        """Return the keys of all places with a manifest, from one listing."""
        return frozenset(path.parent.name for path in self._objects() if path.name == MANIFEST)

    def manifests(self, places: Iterable[PurePath]) -> Iterator[tuple[PurePath, str]]:
        """Yield the text of each readable manifest, many per request if the protocol can."""
        paths = {str(place / MANIFEST): place for place in places}
        contents = self._ask(self._fs.cat, list(paths), on_error="return") if paths else {}
        for path, content in (
            contents if isinstance(contents, dict) else dict.fromkeys(paths, contents)
        ).items():
            if isinstance(content, bytes):
                yield paths[path], content.decode("utf-8", errors="replace")

    def folder(self, place: PurePath) -> Path:
        """Return a copy on this machine."""
        copy = self._copy_of(place)
        if not self._cache.has(copy):
            self._make_room()
            self._cache.commit(copy, lambda folder: self._download(place, folder))
        with contextlib.suppress(FileNotFoundError):
            os.utime(copy)
        return copy

    def forget(self, place: PurePath) -> None:
        """Drop the copy on this machine."""
        copy = self._copy_of(place)
        if copy.exists():
            self._cache.remove(copy)

    @contextlib.contextmanager
    def inspected(self, place: PurePath) -> Iterator[Path]:
        """Yield a private copy of the current files."""
        with temporary_folder() as temporary:
            folder = temporary / place.name
            folder.mkdir()
            text = self._text(place / MANIFEST)
            if text is not None:
                (folder / MANIFEST).write_text(text, encoding="utf-8")
                with contextlib.suppress(StoreError):  # a manifest that is broken: it is told
                    self._get(place, parse_manifest(text, place)["files"], folder)
            yield folder

    def commit(self, place: PurePath, fill: Callable[[Path], None]) -> None:
        """Add the files of `fill`, the manifest last; their folder becomes the copy."""

        def fill_and_upload(folder: Path) -> None:
            fill(folder)
            text = (folder / MANIFEST).read_text(encoding="utf-8")
            files = parse_manifest(text, place)["files"]
            self._make_folder(place)
            sources = [str(folder / name) for name in files]
            self._send(
                self._fs.put,
                sources,
                [str(place / _object(name, file)) for name, file in files.items()],
            )
            if not self.has(place):
                self._write(place / MANIFEST, text)

        self._make_room()
        self._cache.commit(self._copy_of(place), fill_and_upload)

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return the names of those places that have a manifest."""
        return [name for name in names if self.has(self.root / name)]

    def commit_all(
        self, batches: Iterable[Mapping[str, Callable[[str], list[str]]]]
    ) -> Iterator[int]:
        """Add many results, one after the other, each as a whole."""

        def fill_and_flush(fill: Callable[[str], list[str]], folder: Path) -> None:
            flush_all(fill(str(folder)))

        for batch in batches:
            for name, fill in batch.items():
                self.commit(self.root / name, partial(fill_and_flush, fill))
            yield len(batch)

    def remove(self, place: PurePath) -> None:
        """Take a place away, and the copy on this machine."""
        self.forget(place)
        if self.has(place):
            self._ask(self._fs.rm_file, str(place / MANIFEST))
        self.discard([place])

    def abandoned(self, seconds: float) -> list[PurePath]:
        """Return objects outside all manifests that have not changed for that many seconds."""
        paths = set(self._objects())
        named: set[PurePath] = set()
        for place, text in self.manifests({path.parent for path in paths if path.name == MANIFEST}):
            named.add(place / MANIFEST)
            with contextlib.suppress(StoreError):
                named |= {
                    place / _object(name, file)
                    for name, file in parse_manifest(text, place)["files"].items()
                }
        return sorted(
            path for path in paths - named if path.name != MANIFEST and self._age(path) > seconds
        )

    def discard(self, leftovers: Iterable[PurePath]) -> None:
        """Remove objects, and all below these paths."""
        for path in leftovers:
            with contextlib.suppress(FileNotFoundError):
                self._ask(self._fs.rm, str(path), recursive=True)

    def drop_temporaries(self, processes: Iterable[int]) -> None:
        """Remove files of dead processes from the cache; their objects wait for `abandoned`."""
        self._cache.drop_temporaries(processes)

    def sweep(self) -> None:
        """Remove files of killed processes of this machine from the cache."""
        self._cache.sweep()

    def keep_log(self, name: str, text: str) -> str:
        """Write a log; return its URL."""
        self._write(self.root / "logs" / f"{name}.log", text)
        return f"{self.url}/logs/{name}.log"

    def drop_log(self, name: str) -> None:
        """Remove a log if there is one."""
        path = str(self.root / "logs" / f"{name}.log")
        if self._ask(self._fs.exists, path):
            self._ask(self._fs.rm_file, path)

    def free(self) -> int | None:
        """Return None: a bucket has no limit that is known."""
        return None

    def _download(self, place: PurePath, folder: Path) -> None:
        text = self._text(place / MANIFEST)
        if text is None:
            raise BrokenResult(f"store {self.url} holds no finished task {place.name}", place.name)
        files = parse_manifest(text, place)["files"]
        self._get(place, files, folder)
        for name, file in files.items():
            path = folder / name
            reason = fault(path, file, fresh=True)
            if reason:
                text = f"artifact {place / _object(name, file)} cannot be read ({reason}): {ADVICE}"
                raise BrokenResult(text, place.name)
        write_text(folder / MANIFEST, text.rstrip("\n"))

    def _get(self, place: PurePath, files: dict[str, Any], folder: Path) -> None:
        """Copy those files of a place that are there."""
        sources = [str(place / _object(name, file)) for name, file in files.items()]
        targets = [str(folder / name) for name in files]
        try:
            self._ask(self._fs.get, sources, targets)
        except FileNotFoundError:
            for source, target in zip(sources, targets, strict=True):
                Path(target).unlink(missing_ok=True)  # the part of a file that is not there
                with contextlib.suppress(FileNotFoundError):
                    self._ask(self._fs.get_file, source, target)

    def _text(self, path: PurePath) -> str | None:
        try:
            return self._ask(self._fs.cat_file, str(path)).decode("utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _write(self, path: PurePath, text: str) -> None:
        self._make_folder(path.parent)
        self._send(self._fs.pipe_file, str(path), text.encode())

    def _make_folder(self, path: PurePath) -> None:
        protocol = self._fs.protocol
        if not _WITHOUT_FOLDERS.intersection([protocol] if isinstance(protocol, str) else protocol):
            self._ask(self._fs.makedirs, str(path), exist_ok=True)

    def _stages(self) -> list[str]:
        try:
            names = [
                PurePosixPath(path).name
                for path in self._ask(self._fs.ls, str(self.root), detail=False)
            ]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.isidentifier() and name != "logs")

    def _objects(self) -> Iterator[PurePath]:
        """Yield all objects of all places."""
        for path in map(PurePosixPath, self._ask(self._fs.find, str(self.root))):
            key = path.parent.name
            if (
                len(key) == 64
                and path.parent.parent.name == key[:2]
                and path.parent.parent.parent.parent == self.root
            ):
                yield path

    def _age(self, path: PurePath) -> float:
        try:
            return time.time() - self._ask(self._fs.modified, str(path)).timestamp()
        except FileNotFoundError:
            return 0.0

    def _copy_of(self, place: PurePath) -> Path:
        return self._cache.root / place.relative_to(self.root)

    def _make_room(self) -> None:
        """Remove the copies that were not used for longest, while all of them take too much."""
        sizes: dict[Path, int] = {}
        for place in self._cache.places():
            copy = Path(place)
            if copy.exists():
                sizes[copy] = sum(path.stat().st_size for path in copy.iterdir())
        used = sum(sizes.values())
        for copy in sorted(sizes, key=lambda copy: copy.stat().st_mtime):
            if used <= CACHE_BYTES or time.time() - copy.stat().st_mtime < RESTING:
                return
            used -= sizes[copy]
            self._cache.remove(copy)

    def _send(self, method: Callable[..., Any], *arguments: Any) -> None:
        """As `_ask`, where nothing is expected to be there but the bucket."""
        try:
            self._ask(method, *arguments)
        except FileNotFoundError as error:
            raise StoreError(f"store {self.url} cannot be written to: {error}") from error

    def _ask(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the file system; turn all errors but FileNotFoundError into a StoreError."""
        try:
            return method(*arguments, **options)
        except FileNotFoundError:
            raise
        except (
            Exception
        ) as error:  # each protocol has errors of its own, such as missing credentials
            reason = f"{type(error).__name__}: {error}"
            raise StoreError(f"store {self.url} cannot be used: {reason}") from error


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    protocol = url.split("://")[0]
    try:
        return url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        advice = f"pip install '{EXTRAS[protocol]}'" if protocol in EXTRAS else str(error)
        raise StoreError(
            f"store {url}: the package for {protocol}:// is not installed: {advice}"
        ) from error
    except ValueError as error:
        raise StoreError(
            f"store {url}: unknown protocol {protocol}://; a store is a folder, or a URL that fsspec knows, "
            "such as s3://bucket/prefix or gs://bucket/prefix"
        ) from error


def _default_cache(url: str) -> Path:
    """One folder per user and store, where temporary files go."""
    path = Path(
        tempfile.gettempdir(),
        f"bitleak-{os.getuid()}-{hashlib.sha256(url.encode()).hexdigest()[:16]}",
    )
    if url.startswith("memory://"):  # no other process sees that store
        path = path.with_name(f"{path.name}-{os.getpid()}")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    make_folder(path)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise StoreError(
            f"store {url}: {path} belongs to somebody else; set TMPDIR to a folder of your own"
        )
    path.chmod(0o700)
    return path


def _object(name: str, file: dict[str, Any]) -> str:
    return f"{file['sha256'][:16]}.{name}"
