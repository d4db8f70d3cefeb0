"""Results from one store to another: everything arrives, and nothing that is not as it should be is taken."""

import io
import json
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from bitleak.core import disk
from bitleak.core.errors import StoreError
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.transfer import export_results, exporting, import_results, importing, tar_check

TASKS = [
    Task(stage, "1", {"n": n}, label=f"{stage} {n}")
    for stage in ("query", "train")
    for n in range(4)
]


def artifacts(task: Task) -> dict:
    size = 2000 if task.stage == "query" else 9000
    generator = np.random.default_rng(task.params["n"])
    return {
        "x": generator.normal(size=size),
        "y": {"w": generator.normal(size=9)},
        "about": {"note": "été"},
    }


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "here")
    for task in TASKS:
        store.write(task, artifacts(task), {"device": "cpu", "seconds": 1.5})
    return store


@pytest.fixture
def there(tmp_path):
    return Store(tmp_path / "there")


def contents(store: Store, stage: str = "*") -> dict[str, bytes]:
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for path in store.root.glob(f"{stage}/*/*/*")
    }


def test_all_results_arrive_as_they_were(store, there, tmp_path):
    (path,) = export_results(store, tmp_path / "all.tar")
    taken = import_results(there, [path])
    assert (taken.new, taken.known) == (len(TASKS), 0)
    assert {name: data for name, data in contents(there).items() if "manifest" not in name} == {
        name: data for name, data in contents(store).items() if "manifest" not in name
    }
    assert [entry.manifest for entry in there.ls()] == [entry.manifest for entry in store.ls()]
    assert there.verify() == []
    assert not list(there.root.rglob(".tmp*"))


def test_only_what_is_asked_for_goes(store, there, tmp_path):
    wanted = {TASKS[1].key, TASKS[2].key, TASKS[5].key}
    import_results(
        there, export_results(store, tmp_path / "some.tar", keys=wanted, stages=["query"])
    )
    assert {entry.key for entry in there.ls()} == {TASKS[1].key, TASKS[2].key}


def test_parts_are_no_larger_than_they_may_be_and_each_is_good_for_itself(store, there, tmp_path):
    limit = 100_000
    paths = export_results(store, tmp_path / "some.tar", part_bytes=limit)
    assert [path.name for path in paths][:2] == [
        f"some-1-of-{len(paths)}.tar",
        f"some-2-of-{len(paths)}.tar",
    ]
    assert len(paths) == 5  # the four answers fit into one; of the weights, of 75 kB, one into each
    assert all(path.stat().st_size <= limit for path in paths)
    counts = [import_results(there, [path]).new for path in reversed(paths)]
    assert sum(counts) == len(TASKS)
    assert min(counts) > 0
    assert there.verify() == []


def test_a_result_that_fits_no_part_is_named_with_what_to_do(store, tmp_path):
    with pytest.raises(
        StoreError, match=r"train \d is a result of 0\.1 MB.*raise --max-bytes.*--stage.*query"
    ):
        export_results(store, tmp_path / "x.tar", part_bytes=60_000)
    assert list(tmp_path.glob("*.tar")) == []


def test_what_is_known_stays_and_what_is_damaged_is_replaced(store, there, tmp_path):
    (path,) = export_results(store, tmp_path / "all.tar", stages=["query"])
    import_results(there, [path])
    place = there.path(TASKS[0])
    (place / "x.npy").write_bytes((place / "x.npy").read_bytes()[:-1])
    taken = import_results(there, [path])
    assert (taken.new, taken.known) == (1, 3)
    assert there.verify() == []


def test_what_is_damaged_does_not_leave(store, tmp_path):
    path = store.path(TASKS[0]) / "x.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"x\.npy cannot be exported \(its content is not what was written"
    ):
        export_results(store, tmp_path / "x.tar")
    assert [entry.name for entry in tmp_path.iterdir()] == ["here"]


def test_nothing_to_export_and_files_in_the_way_are_errors(store, tmp_path):
    with pytest.raises(StoreError, match="holds none of the results"):
        export_results(store, tmp_path / "x.tar", stages=["attack"])
    (tmp_path / "x.tar").touch()
    with pytest.raises(StoreError, match=r"x\.tar exists: remove it"):
        export_results(store, tmp_path / "x.tar")


def members(store: Store, tasks=TASKS[:1]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What an export of a few results consists of, to be tampered with."""
    found = []
    for task in tasks:
        names = [
            "manifest.json",
            *json.loads((store.path(task) / "manifest.json").read_text())["files"],
        ]
        for name in names:
            content = (store.path(task) / name).read_bytes()
            info = tarfile.TarInfo(f"{task.stage}/{task.key[:2]}/{task.key}/{name}")
            info.size = len(content)
            found.append((info, content))
    return found


def packed(
    path: Path, parts: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w", **options
) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for info, content in parts:
            archive.addfile(info, io.BytesIO(content))
    return path


def renamed(to: str):
    def tamper(parts):
        parts[1][0].name = to
        return parts

    return tamper


def typed(kind: bytes, target: str = ""):
    def tamper(parts):
        info = tarfile.TarInfo(parts[1][0].name)
        info.type, info.linkname = kind, target
        return [parts[0], (info, b""), *parts[2:]]

    return tamper


def flipped(parts):
    content = bytearray(parts[1][1])
    content[-1] ^= 1
    return [parts[0], (parts[1][0], bytes(content)), *parts[2:]]


def longer(parts):
    parts[1][0].size += 1
    return [parts[0], (parts[1][0], parts[1][1] + b"x"), *parts[2:]]


def manifest(change):
    def tamper(parts):
        about = json.loads(parts[0][1])
        change(about)
        text = json.dumps(about).encode()
        parts[0][0].size = len(text)
        return [(parts[0][0], text), *parts[1:]]

    return tamper


def extra(parts):
    info = tarfile.TarInfo(parts[0][0].name.replace("manifest.json", "other.json"))
    info.size = 1
    return [*parts, (info, b"1")]


TAMPERING = {
    "absolute": (renamed("/etc/cron.d/x.json"), "is not the name of a file of a result"),
    "up": (renamed("query/../../x.json"), "is not the name of a file of a result"),
    "elsewhere": (
        renamed("logs/00/" + "0" * 64 + "/x.json"),
        "is not the name of a file of a result",
    ),
    "pickle": (
        renamed(f"query/{TASKS[0].key[:2]}/{TASKS[0].key}/x.pkl"),
        "is not the name of a file of a result",
    ),
    "symbolic link": (typed(tarfile.SYMTYPE, "/etc/passwd"), "is not a plain file"),
    "hard link": (typed(tarfile.LNKTYPE, "x"), "is not a plain file"),
    "device": (typed(tarfile.CHRTYPE), "is not a plain file"),
    "fifo": (typed(tarfile.FIFOTYPE), "is not a plain file"),
    "folder": (typed(tarfile.DIRTYPE), "is not a plain file"),
    "flipped bit": (flipped, "its content is not what was written"),
    "longer": (longer, r"expected \d+ bytes, got \d+"),
    "missing file": (lambda parts: parts[:-1], "lacks files of its manifest"),
    "file too much": (extra, "a result must be in one piece"),
    "no manifest": (lambda parts: parts[1:], "a result must be in one piece, its manifest first"),
    "twice": (lambda parts: [*parts, *parts], "a result must be in one piece"),
    "same file twice": (
        lambda parts: [parts[0], parts[1], parts[1], *parts[3:]],
        "holds a file twice",
    ),
    "other task": (
        manifest(lambda about: about["task"].update(version="2")),
        "its task is not the one",
    ),
    "dressed task": (manifest(lambda about: about["task"].update(label="x")), "is not a manifest"),
    "no files": (manifest(lambda about: about.pop("files")), "is not a manifest"),
    "stage of logs": (
        manifest(lambda about: about["task"].update(stage="logs")),
        "is not a manifest",
    ),
}


@pytest.mark.parametrize("name", sorted(TAMPERING))
def test_what_was_tampered_with_is_refused_and_nothing_is_taken(store, there, tmp_path, name):
    tamper, message = TAMPERING[name]
    good = packed(tmp_path / "good.tar", members(store, TASKS[1:3]))
    bad = packed(tmp_path / "bad.tar", tamper(members(store)))
    with pytest.raises(StoreError, match=rf"bad\.tar.*{message}.*nothing was taken"):
        import_results(there, [good, bad])
    assert there.ls() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bad.tar",
        "good.tar",
        "here",
        "there",
    ]
    assert import_results(there, [good]).new == 2


def test_a_manifest_too_large_to_be_one_is_not_read(store, there, tmp_path, monkeypatch):
    monkeypatch.setattr(tar_check, "LARGEST_MANIFEST", 100)
    with pytest.raises(StoreError, match="a manifest of"):
        import_results(there, [packed(tmp_path / "x.tar", members(store))])


@pytest.mark.parametrize("length", [0, 300, 512, 5000, 20_480, -10_240])
def test_a_file_that_was_cut_off_is_refused(store, there, tmp_path, length):
    (path,) = export_results(store, tmp_path / "x.tar")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StoreError, match="nothing was taken"):
        import_results(there, [path])
    assert there.ls() == []


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_what_follows_the_end_or_a_damaged_header_is_refused(store, there, tmp_path, format):
    path = packed(tmp_path / "x.tar", members(store, TASKS[:2]), format=format)
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        second = next(info.offset for info in archive if TASKS[1].key in info.name)
    content[second + 150] ^= 1  # in the checksum: `tarfile` takes it for the end
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match=rf"there is something after its end, at byte {second}; nothing was taken"
    ):
        import_results(there, [path])
    content[second + 150] ^= 1
    path.write_bytes(content * 2)
    with pytest.raises(StoreError, match=r"there is something after its end.*nothing was taken"):
        import_results(there, [path])
    path.write_bytes(content)
    assert import_results(there, [path]).new == 2


@pytest.mark.parametrize("length", [5, 40, 60])
def test_long_names_are_read_in_every_format(store, tmp_path, length):
    task = Task("s" * length, "1")
    store.write(task, {"a_name_of_twenty_nine_letters": np.arange(5)}, {})
    (ours,) = export_results(store, tmp_path / "x.tar", keys={task.key})
    gnu = packed(tmp_path / "gnu.tar", members(store, [task]), format=tarfile.GNU_FORMAT)
    for path in (ours, gnu):
        taken = Store(tmp_path / path.stem)
        assert import_results(taken, [path]).new == 1
        assert taken.read(task)["a_name_of_twenty_nine_letters"].tolist() == [0, 1, 2, 3, 4]


def test_the_quick_reader_and_tarfile_find_the_same_members(store, tmp_path, monkeypatch):
    (path,) = export_results(store, tmp_path / "x.tar")
    quick = tar_check.check_tar(path, lambda position: None)
    monkeypatch.setattr(tar_check, "_ustar_member", lambda file, offset: None)
    assert tar_check.check_tar(path, lambda position: None) == quick
    assert len(quick) == len(TASKS)


def test_compressed_and_extended_files_are_refused(store, there, tmp_path):
    with pytest.raises(StoreError, match="nothing was taken"):
        import_results(there, [packed(tmp_path / "x.tar.gz", members(store), "w:gz")])
    parts = members(store)
    parts[1][0].pax_headers = {"comment": "x" * 10}
    with pytest.raises(StoreError, match="is not a plain file"):
        import_results(there, [packed(tmp_path / "x.tar", parts, format=tarfile.PAX_FORMAT)])
    with pytest.raises(StoreError, match="No such file"):
        import_results(there, [tmp_path / "none.tar"])


def test_a_file_that_changes_while_it_is_read_is_noticed(store, there, tmp_path, monkeypatch):
    (path,) = export_results(store, tmp_path / "x.tar", stages=["query"])
    adopt_all = Store.adopt_all

    def change_first(self, results):
        content = bytearray(path.read_bytes())
        for place in range(3000, len(content) - 10_240, 100):
            content[place] ^= 1
        path.write_bytes(content)
        monkeypatch.setattr(Store, "adopt_all", adopt_all)
        return adopt_all(self, results)

    monkeypatch.setattr(Store, "adopt_all", change_first)
    with pytest.raises(StoreError, match="was changed while it was read"):
        import_results(there, [path])
    assert there.ls() == []
    assert not list(there.root.rglob(".tmp*"))


class Disk:
    """Which files and folder entries a power failure would leave: only those that were flushed."""

    def __init__(self, monkeypatch):
        self.flushed: set[int] = set()
        self.lost: list[str] = []
        self.placed: list[Path] = []
        self.whole = 0
        self._pending: set[Path] = set()
        fsync, rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", lambda descriptor: self._fsync(fsync, descriptor))
        monkeypatch.setattr(
            os, "rename", lambda source, target: self._rename(rename, Path(source), Path(target))
        )
        monkeypatch.setattr(disk, "syncfs", lambda: self._syncfs)

    def _fsync(self, fsync, descriptor):
        fsync(descriptor)
        self.flushed.add(os.fstat(descriptor).st_ino)
        folder = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._pending -= {entry for entry in list(self._pending) if entry.parent == folder}

    def _syncfs(self, descriptor):
        root = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        written = {path.stat().st_ino for path in root.rglob("*")}
        named = set(self._pending)
        time.sleep(0.02)  # who does not wait is noticed
        self.flushed |= written
        self._pending -= named
        self.whole += 1

    def _rename(self, rename, path, target):
        self.lost += [
            str(part) for part in (path, *path.iterdir()) if part.stat().st_ino not in self.flushed
        ]
        self.placed.append(target)
        self._pending |= {target, *target.parents[:2]}
        return rename(path, target)

    @property
    def pending(self) -> set[Path]:
        """Entries of folders that have not been flushed since they were made."""
        return self._pending


@pytest.mark.parametrize("batch", [3, 1024])
@pytest.mark.parametrize("whole", [False, True])
def test_every_file_has_reached_the_disk_before_its_result_counts_and_every_entry_at_the_end(
    store, there, tmp_path, monkeypatch, batch, whole
):
    monkeypatch.setattr(importing, "BATCH_RESULTS", batch)
    (path,) = export_results(store, tmp_path / "x.tar")
    power = Disk(monkeypatch)
    monkeypatch.setattr(disk, "file_system", lambda device: "ext4" if whole else "nfs4")
    monkeypatch.setattr(disk, "MANY", 1)
    import_results(there, [path])
    assert sorted(power.placed) == sorted(there.path(task) for task in TASKS)
    assert power.lost == []
    assert power.pending == set()
    assert power.whole == (1 - -len(TASKS) // batch if whole else 0)  # one per batch, and the last


@pytest.mark.parametrize("batch", [3, 1024])
@pytest.mark.parametrize("at", [0, 3, 7])
def test_an_import_that_is_killed_at_any_rename_leaves_whole_results_and_goes_on(
    store, there, tmp_path, monkeypatch, at, batch
):
    monkeypatch.setattr(importing, "BATCH_RESULTS", batch)
    (path,) = export_results(store, tmp_path / "x.tar")
    rename, calls = os.rename, []

    def killed(source, target):
        calls.append(target)
        if len(calls) == at + 1:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        import_results(there, [path])
    monkeypatch.setattr(os, "rename", rename)
    assert len(there.ls()) == at
    assert there.verify() == []
    assert not list(there.root.rglob(".tmp*"))
    assert import_results(there, [path]).new == len(TASKS) - at
    assert len(there.ls()) == len(TASKS)


def test_progress_is_told_of_both_passes_and_of_an_export(store, there, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "BATCH_RESULTS", 3)
    monkeypatch.setattr(exporting, "PACKED_PER_REPORT", 2)
    monkeypatch.setattr(tar_check, "CHECKED_PER_REPORT", 2)
    told: list[tuple[float, str]] = []
    paths = export_results(store, tmp_path / "x.tar", on_step=lambda *step: told.append(step))
    assert told == [(n / 8, "writing results") for n in (2, 4, 6, 8)]
    told.clear()
    import_results(there, paths, lambda *step: told.append(step))
    checking = [done for done, doing in told if doing == "checking"]
    assert len(checking) == 4
    assert checking == sorted(checking)
    assert 0 < checking[0] < checking[-1] <= 1
    assert told[4:] == [(n / 8, "taking results") for n in (3, 6, 8)]


def test_a_result_that_two_files_bring_is_taken_once(store, there, tmp_path):
    paths = [packed(tmp_path / f"{n}.tar", members(store, TASKS[n : n + 2])) for n in (0, 1)]
    taken = import_results(there, paths)
    assert (taken.new, taken.known) == (3, 1)
    assert there.verify() == []
