"""A store under a URL: what a folder can, with objects that appear one by one."""

import json
import os
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

from bitleak.core.errors import BrokenResult, StoreError
from bitleak.engine.artifacts import MAPPED
from bitleak.engine.backends import bucket
from bitleak.engine.execution import run_tasks
from bitleak.engine.executors.serial import Serial
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime, run_batch

TASK = Task("train", "1", {"seed": 3}, label="train model 3")
OTHER = Task("query", "1", {}, {"weights": TASK.key})
ARTIFACTS = {
    "signals": np.arange(12.0).reshape(3, 4),
    "tensors": {"a.weight": np.ones((2, 3), np.float32), "a.count": np.array(7)},
    "about": {"kind": None, "numbers": [1, 2.5]},
}


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    """Where this machine's copies go."""
    monkeypatch.setattr(bucket.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def url():
    return f"memory://bucket-{uuid.uuid4().hex}/prefix"


@pytest.fixture
def store(url):
    return Store(url)


@pytest.fixture
def objects(store):
    """Names of all objects below the prefix."""
    fs = fsspec.filesystem("memory")
    return lambda: sorted(path.removeprefix(f"{store.root}/") for path in fs.find(str(store.root)))


@pytest.fixture
def elsewhere(monkeypatch, tmp_path, url, store):
    """The same store as another machine sees it, without copies."""

    def look():
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        monkeypatch.setattr(bucket.tempfile, "tempdir", str(folder))
        return Store(url, create=False)

    return look


def same(left, right):
    return {name: np.asarray(value).tobytes() for name, value in left.items()} == {
        name: np.asarray(value).tobytes() for name, value in right.items()
    }


def test_what_is_written_comes_back_here_and_elsewhere(store, elsewhere):
    store.write(TASK, ARTIFACTS, {"device": "cpu"})
    for found in (store.read(TASK), elsewhere().read(TASK)):
        assert found["signals"].tobytes() == ARTIFACTS["signals"].tobytes()
        assert same(found["tensors"], ARTIFACTS["tensors"])
        assert found["about"] == ARTIFACTS["about"]


def test_files_go_first_and_the_manifest_last(store, objects, monkeypatch):
    fs, order = store._files._fs, []
    for name in ("put", "pipe_file"):
        method = getattr(fs, name)
        monkeypatch.setattr(
            fs, name, lambda *args, name=name, method=method: (order.append(name), method(*args))[1]
        )
    store.write(TASK, ARTIFACTS, {})
    assert order == ["put", "pipe_file"]
    assert objects()[-1] == f"train/{TASK.key[:2]}/{TASK.key}/manifest.json"
    assert len(objects()) == 2 + 3  # format, manifest, three artifacts


def test_an_upload_that_is_interrupted_counts_for_nothing(store, objects, elsewhere, monkeypatch):
    write = type(store._files)._write
    monkeypatch.setattr(
        type(store._files), "_write", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        store.write(TASK, ARTIFACTS, {})
    monkeypatch.setattr(type(store._files), "_write", write)
    assert len(objects()) == 1 + 3
    for one in (store, elsewhere()):
        assert not one.has(TASK)
        assert one.find(TASK.key) is None
        assert one.ls() == []
        assert not one.snapshot().has(TASK)
    store.write(TASK, ARTIFACTS, {})
    assert same(store.read(TASK)["tensors"], ARTIFACTS["tensors"])
    assert store.verify() == []


def test_two_writers_with_different_bytes_are_never_mixed(store, elsewhere, monkeypatch):
    has = type(store._files).has
    monkeypatch.setattr(
        type(store._files), "has", lambda self, place: False
    )  # neither sees the other
    store.write(TASK, {"a": np.zeros(3), "b": np.zeros(3)}, {})
    elsewhere().write(TASK, {"a": np.ones(3), "b": np.ones(3)}, {})
    monkeypatch.setattr(type(store._files), "has", has)
    found = elsewhere().read(TASK)
    assert np.array_equal(found["a"], found["b"])
    assert store.verify() == []
    assert same(store.read(TASK), {"a": np.zeros(3), "b": np.zeros(3)})  # its own copy, whole too


def test_large_arrays_are_mapped_from_a_copy(store, elsewhere):
    store.write(TASK, {"large": np.zeros(MAPPED, np.uint8)}, {})
    array = elsewhere().read(TASK)["large"]
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable


def test_a_copy_is_made_once_for_all_workers_of_a_machine(store, url, elsewhere, monkeypatch):
    store.write(TASK, ARTIFACTS, {})
    elsewhere().read(TASK)
    monkeypatch.setattr(type(store._files), "_get", lambda *args: pytest.fail("copied again"))
    again = Store(url, create=False)
    assert again.read(TASK)["about"] == ARTIFACTS["about"]


def test_copies_not_used_for_longest_make_room(store, elsewhere, monkeypatch):
    tasks = [Task("train", "1", {"seed": seed}) for seed in range(4)]
    for task in tasks:
        store.write(task, {"x": np.zeros(1000)}, {})
    other = elsewhere()
    for task in tasks[:3]:
        other.read(task)
    cache = other._files._cache
    for age, task in zip((3000, 4000, 5), tasks[:3], strict=True):
        copy = cache.root / task.stage / task.key[:2] / task.key
        os.utime(copy, (time.time() - age, time.time() - age))
    monkeypatch.setattr(bucket, "CACHE_BYTES", 20_000)
    other.read(tasks[3])
    assert {place.name for place in cache.places()} == {tasks[index].key for index in (0, 2, 3)}
    monkeypatch.setattr(bucket, "CACHE_BYTES", 0)
    assert other.read(tasks[1])["x"].sum() == 0  # made again
    assert {place.name for place in cache.places()} == {
        tasks[index].key for index in (1, 2, 3)
    }  # 2 and 3 rest


def test_a_flipped_bit_is_found_and_named_and_its_removal_lets_it_be_made_again(
    store, objects, elsewhere
):
    store.write(TASK, ARTIFACTS, {})
    store.write(OTHER, {"x": np.zeros(3)}, {})
    (name,) = [name for name in objects() if name.endswith("tensors.safetensors")]
    fs = fsspec.filesystem("memory")
    content = bytearray(fs.cat_file(f"{store.root}/{name}"))
    content[-1] ^= 1
    fs.pipe_file(f"{store.root}/{name}", bytes(content))
    other = elsewhere()
    with pytest.raises(
        BrokenResult, match=r"tensors\.safetensors cannot be read \(its content is not"
    ) as caught:
        other.read(TASK)
    assert caught.value.key == TASK.key
    (problem,) = other.verify()
    assert (problem.place, problem.path.name) == (other.path(TASK), "tensors.safetensors")
    other.discard(OTHER)
    other.discard(TASK)
    assert [other.has(OTHER), other.has(TASK)] == [True, False]
    assert not [name for name in objects() if name.startswith("train/")]


def test_a_missing_object_is_named(store, objects, elsewhere):
    store.write(TASK, ARTIFACTS, {})
    (name,) = [name for name in objects() if name.endswith("signals.npy")]
    fsspec.filesystem("memory").rm(f"{store.root}/{name}")
    with pytest.raises(BrokenResult, match=r"signals\.npy cannot be read \(missing\)"):
        elsewhere().read(TASK)
    assert [problem.reason for problem in store.verify()] == ["missing"]


def test_a_damaged_copy_is_dropped_and_fetched_again(store, elsewhere):
    store.write(TASK, ARTIFACTS, {})
    other = elsewhere()
    copy = other.folder(other.path(TASK)) / "signals.npy"
    copy.write_bytes(copy.read_bytes()[:-1])
    with pytest.raises(BrokenResult, match="expected 224 bytes, got 223"):
        other.read(TASK)
    assert other.read(TASK)["signals"].sum() == 66


def test_ls_sizes_and_manifests_are_those_of_a_folder(store, tmp_path):
    local = Store(tmp_path / "local")
    for one in (store, local):
        one.write(TASK, ARTIFACTS, {"seconds": 2.0})
        one.write(OTHER, {"x": np.zeros(100)}, {})
    assert [(entry.stage, entry.key, entry.size) for entry in store.ls()] == [
        (entry.stage, entry.key, entry.size) for entry in local.ls()
    ]
    assert store.sizes() == local.sizes()
    found = store.manifests([TASK, Task("train", "1", {"seed": 9})])
    assert set(found) == {TASK.key}
    assert found[TASK.key]["files"] == local.manifests([TASK])[TASK.key]["files"]


def test_gc_keeps_what_is_named_and_young_leftovers(store, objects, monkeypatch):
    store.write(TASK, {"x": 1}, {})
    drop = store.write(OTHER, {"x": 1}, {})
    orphan = store.path(TASK) / "0123456789abcdef.x.json"
    fsspec.filesystem("memory").pipe_file(str(orphan), b"2")
    assert store.gc({TASK.key}, dry_run=True) == [drop]
    later = time.time() + 4000
    monkeypatch.setattr(time, "time", lambda: later)
    assert store.gc({TASK.key}) == [drop, orphan]
    assert [name.split("/")[0] for name in objects()] == ["format.json", "train", "train"]
    assert store.read(TASK) == {"x": 1}


def test_a_whole_graph_ends_as_in_a_folder(url, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    runtime = Runtime(stages="toy_stages", data=str(tmp_path))
    source = Task("draw", "1", {"seed": 0, "size": 5000})
    powers = [
        Task("multiply", "1", {"power": power}, {"numbers": source.key}, group="g")
        for power in (1, 2)
    ]
    tasks = [source, *powers, Task("total", "1", {}, {"parts": tuple(task.key for task in powers)})]
    stores = [Store(url), Store(tmp_path / "local")]
    for one in stores:
        report = run_tasks(Graph(tasks), one, Serial(one.location, runtime))
        assert len(report.done) == 4
        assert run_tasks(Graph(tasks), one, Serial(one.location, runtime)).done == ()
    remote, local = ({entry.key: entry.manifest["files"] for entry in one.ls()} for one in stores)
    assert remote == local


def test_the_log_of_a_failure_is_in_the_store_and_goes_when_the_task_succeeds(
    store, url, objects, monkeypatch
):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    runtime, task = Runtime(stages="toy_stages"), Task("draw", "1", {})
    (outcome,) = run_batch(url, [task], runtime)
    assert outcome.log == f"{url}/logs/{task.key}.log"
    assert b"KeyError" in fsspec.filesystem("memory").cat_file(f"{store.root}/logs/{task.key}.log")
    import toy_stages

    monkeypatch.setattr(toy_stages, "draw", lambda params, *_: iter([{"x": 1} for _ in params]))
    assert run_batch(url, [task], runtime)[0].ok
    assert not [name for name in objects() if name.startswith("logs/")]


def test_other_processes_see_what_is_committed(tmp_path):
    """`local://` is objects in a folder: the one protocol without a server that processes share."""
    url = f"local://{tmp_path}/objects"
    script = """
        import sys, numpy as np
        from bitleak.engine.keys import Task
        from bitleak.engine.store import Store
        Store(sys.argv[1]).write(Task("train", "1", {"seed": 3}), {"x": np.arange(5)}, {})
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), url], check=True, env=environment
    )
    store = Store(url, create=False)
    assert store.read(TASK)["x"].tolist() == [0, 1, 2, 3, 4]
    assert store.verify() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "nonsense://bucket/prefix",
            r"unknown protocol nonsense://; a store is a folder, or a URL that fsspec knows",
        ),
        (
            "s3://bucket/prefix",
            r"the package for s3:// is not installed: pip install 'bitleak\[s3\]'",
        ),
        (
            "gs://bucket/prefix",
            r"the package for gs:// is not installed: pip install 'bitleak\[gs\]'",
        ),
    ],
)
def test_a_protocol_that_cannot_be_used_says_what_to_do(url, message, monkeypatch):
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StoreError, match=message):
        Store(url)


def test_errors_of_the_protocol_name_the_store(store, url, monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionRefusedError("no credentials")

    monkeypatch.setattr(store._files._fs, "put", refuse)
    with pytest.raises(
        StoreError, match=rf"store {url} cannot be used: ConnectionRefusedError: no credentials"
    ):
        store.write(TASK, ARTIFACTS, {})


def test_a_prefix_that_is_no_store_is_not_made_one_by_looking(url, store, objects):
    fsspec.filesystem("memory").rm(f"{store.root}/format.json")
    with pytest.raises(StoreError, match="is not a bitleak store"):
        Store(url, create=False)
    assert objects() == []
    fsspec.filesystem("memory").pipe_file(
        f"{store.root}/format.json", json.dumps({"format": 2}).encode()
    )
    with pytest.raises(StoreError, match="has format 2"):
        Store(url)


def test_a_manifest_cannot_name_files_elsewhere(store, elsewhere):
    place = store.write(TASK, ARTIFACTS, {})
    fs = fsspec.filesystem("memory")
    text = (
        fs.cat_file(str(place / "manifest.json"))
        .decode()
        .replace('"about.json"', '"../../about.json"')
    )
    fs.pipe_file(str(place / "manifest.json"), text.encode())
    with pytest.raises(BrokenResult, match="is not the name of a file beside it"):
        elsewhere().read(TASK)
