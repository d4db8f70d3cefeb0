import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bitleak.core import leftovers
from bitleak.core.errors import BrokenResult, StoreError
from bitleak.engine import store as store_module
from bitleak.engine.artifacts import MAPPED, read_artifact, write_artifact
from bitleak.engine.backends import folder as folder_module
from bitleak.engine.claims import Claims
from bitleak.engine.keys import Task
from bitleak.engine.store import Store

TASK = Task("train", "1", {"seed": 3}, label="train model 3")
ARTIFACTS = {
    "signals": np.arange(12.0).reshape(3, 4),
    "tensors": {"a.weight": np.ones((2, 3), np.float32), "a.count": np.array(7)},
    "about": {"kind": None, "numbers": [1, 2.5], "nothing": {}},
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def same(left, right):
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    return left == right


def test_what_is_written_comes_back(store):
    store.write(TASK, ARTIFACTS, {"device": "cpu"})
    back = store.read(TASK)
    assert set(back) == set(ARTIFACTS)
    assert same(back["signals"], ARTIFACTS["signals"])
    assert same(dict(sorted(back["tensors"].items())), dict(sorted(ARTIFACTS["tensors"].items())))
    assert back["about"] == ARTIFACTS["about"]
    assert store.read_key(TASK.key)["about"] == ARTIFACTS["about"]


@settings(max_examples=30, deadline=None)
@given(
    value=arrays.arrays(
        st.sampled_from(["u1", "i8", "f4", "f8", "?"]), arrays.array_shapes(min_dims=0, min_side=0)
    )
)
def test_every_array_comes_back_bit_for_bit(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("artifacts")
    for stored in (value, {"one": value}):
        assert same(read_artifact(write_artifact(folder, "array", stored)), stored)


def test_bytes_do_not_depend_on_the_layout_in_memory(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    for name, wrap in {"plain": lambda item: item, "named": lambda item: {"x": item}}.items():
        first = write_artifact(tmp_path, name, wrap(array)).read_bytes()
        assert write_artifact(tmp_path, name, wrap(np.asfortranarray(array))).read_bytes() == first


def test_large_arrays_are_mapped_and_read_only(tmp_path):
    array = read_artifact(write_artifact(tmp_path, "large", np.zeros(MAPPED, np.uint8)))
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable


@pytest.mark.parametrize(
    "value", [np.array([object()]), {"a": {1, 2}}, {"a": np.float32(1)}, {"a": np.zeros(1), "b": 1}]
)
def test_what_would_need_a_pickle_is_refused(store, value):
    with pytest.raises(TypeError):
        store.write(TASK, {"fine": np.zeros(1), "value": value}, {})
    assert not store.has(TASK)
    assert not list(store.root.rglob(".tmp*"))


@pytest.mark.parametrize("name", ["manifest", "../up", "a.b", ""])
def test_names_that_could_be_mistaken_are_refused(store, name):
    with pytest.raises(ValueError, match="an artifact's name"):
        store.write(TASK, {name: 1}, {})


def test_a_pickle_in_the_store_is_not_loaded(store):
    place = store.write(TASK, {"array": np.zeros(3)}, {})
    np.save(place / "array.npy", np.array([print], dtype=object), allow_pickle=True)
    _set_size(place, "array.npy")
    with pytest.raises(StoreError, match=r"array\.npy cannot be read"):
        store.read(TASK)


def test_the_manifest_records_task_runtime_and_digests(store):
    place = store.write(TASK, ARTIFACTS, {"device": "cpu", "seconds": 1.5})
    manifest = json.loads((place / "manifest.json").read_text())
    assert place == store.root / "train" / TASK.key[:2] / TASK.key
    assert manifest["task"] == {
        "stage": "train",
        "version": "1",
        "params": {"seed": 3},
        "inputs": {},
    }
    assert manifest["label"] == "train model 3"
    assert manifest["runtime"] == {"device": "cpu", "seconds": 1.5}
    assert sorted(manifest["files"]) == ["about.json", "signals.npy", "tensors.safetensors"]
    assert manifest["files"]["signals.npy"]["size"] == (place / "signals.npy").stat().st_size


def test_ls_and_sizes_count_what_is_there(store):
    other = Task("query", "1")
    store.write(TASK, ARTIFACTS, {})
    store.write(other, {"x": np.zeros(100)}, {})
    files = [path for path in store.path(TASK).iterdir() if path.name != "manifest.json"]
    assert [(entry.stage, entry.key) for entry in store.ls()] == [
        ("query", other.key),
        ("train", TASK.key),
    ]
    assert store.sizes()["train"] == (1, sum(path.stat().st_size for path in files))


def test_the_first_to_finish_a_task_wins(store):
    place = store.write(TASK, {"x": 1}, {})
    store.write(TASK, {"x": 2}, {})
    assert store.read(TASK) == {"x": 1}
    assert [path.name for path in place.parent.iterdir()] == [TASK.key]


def test_two_writers_at_once_leave_one_result(store, monkeypatch):
    move = folder_module._move

    def overtaken(temporary: Path, place: Path) -> None:
        monkeypatch.setattr(folder_module, "_move", move)
        Store(store.root).write(TASK, {"x": 1}, {})
        move(temporary, place)

    monkeypatch.setattr(folder_module, "_move", overtaken)
    place = store.write(TASK, {"x": 2}, {})
    assert store.read(TASK) == {"x": 1}
    assert [path.name for path in place.parent.iterdir()] == [TASK.key]


def test_a_folder_without_manifest_is_not_done_and_makes_room(store):
    place = store.path(TASK)
    place.mkdir(parents=True)
    (place / "x.json").write_text("1")
    assert not store.has(TASK)
    assert [problem.path.name for problem in store.verify()] == ["manifest.json"]
    store.write(TASK, {"x": 2}, {})
    assert store.read(TASK) == {"x": 2}
    assert [path.name for path in place.parent.iterdir()] == [TASK.key]


def test_an_interrupted_write_leaves_nothing(store, monkeypatch):
    def interrupt(folder: Path, name: str, value: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "write_artifact", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(TASK, {"x": 1}, {})
    assert list(store.path(TASK).parent.iterdir()) == []


def test_a_full_disk_is_a_store_error(store, monkeypatch):
    def full(folder: Path, name: str, value: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_artifact", full)
    with pytest.raises(StoreError, match="cannot be written to: No space left on device"):
        store.write(TASK, {"x": 1}, {})


def test_verify_finds_a_flipped_bit_and_names_the_file(store):
    place = store.write(TASK, ARTIFACTS, {})
    store.write(Task("query", "1"), {"x": np.zeros(100)}, {})
    assert store.verify() == []
    content = bytearray((place / "tensors.safetensors").read_bytes())
    content[-1] ^= 1
    (place / "tensors.safetensors").write_bytes(content)
    assert [(problem.place, problem.path.name) for problem in store.verify()] == [
        (place, "tensors.safetensors")
    ]


def test_verify_names_each_kind_of_damage(store):
    places = [
        store.write(Task("train", "1", {"seed": seed}), {"x": np.zeros(3)}, {}) for seed in range(4)
    ]
    (places[0] / "x.npy").unlink()
    (places[1] / "x.npy").write_bytes((places[1] / "x.npy").read_bytes()[:-1])
    (places[2] / "manifest.json").write_text("{")
    manifest = places[3] / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 3', '"seed": 2'))
    found = {problem.place: problem.reason.partition(" (")[0] for problem in store.verify()}
    assert found == {
        places[0]: "missing",
        places[1]: "expected 152 bytes, got 151",
        places[2]: "missing or unreadable",
        places[3]: "its task is not the one that the folder is named after",
    }


@pytest.mark.parametrize("damage", ["missing", "truncated", "manifest"])
def test_reading_a_damaged_result_names_the_file_and_what_to_do(store, damage):
    place = store.write(TASK, {"x": np.zeros(3)}, {})
    path = place / ("manifest.json" if damage == "manifest" else "x.npy")
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match=rf"{path.name} cannot be read .*bitleak store verify"):
        store.read(TASK)


def test_what_is_removed_is_not_done(store):
    place = store.write(TASK, ARTIFACTS, {})
    store.remove(place)
    assert not store.has(TASK)
    assert list(place.parent.iterdir()) == []


def test_gc_keeps_what_is_named_and_young_temporaries(store):
    keep = store.write(TASK, {"x": 1}, {})
    drop = store.write(Task("train", "1", {"seed": 4}), {"x": 1}, {})
    young, old = (keep.parent / f".tmp.machine.{name}" for name in ("young", "old"))
    young.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    planned = store.gc({TASK.key}, dry_run=True)
    assert sorted(planned) == sorted([drop, old])
    assert drop.exists()
    assert old.exists()
    assert store.gc({TASK.key}) == planned
    assert [path.exists() for path in (keep, young, drop, old)] == [True, True, False, False]


def test_temporaries_of_the_dead_are_dropped(store):
    parent = store.write(TASK, {"x": 1}, {}).parent
    dead, alive = (parent / f".tmp.{leftovers.place()}.{number}.0.abc" for number in (12, 123))
    dead.mkdir()
    alive.mkdir()
    store.drop_temporaries([12])
    assert [dead.exists(), alive.exists()] == [False, True]


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be a folder, but it is a file"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be written to"):
        Store(tmp_path / "file" / "below")


def test_a_root_that_cannot_be_written_to_is_refused(store, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match="cannot be written to: no permission"):
        Store(store.root)
    Store(store.root, create=False)


@pytest.mark.parametrize("content", ["", "[]", '{"size": 1}'])
def test_a_broken_format_file_is_refused(store, content):
    (store.root / "format.json").write_text(content)
    with pytest.raises(StoreError, match="is not a bitleak store"):
        Store(store.root)


def test_a_newer_format_is_refused(store):
    (store.root / "format.json").write_text('{"format": 2}')
    with pytest.raises(StoreError, match="has format 2, this bitleak reads format 1"):
        Store(store.root)


def test_a_folder_that_is_no_store_is_not_made_one_by_looking(tmp_path):
    with pytest.raises(StoreError, match="is not a bitleak store"):
        Store(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_not_there_is_named(store):
    with pytest.raises(StoreError, match=f"no finished task {TASK.key}"):
        store.read(TASK)


def _set_size(place: Path, name: str) -> None:
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][name]["size"] = (place / name).stat().st_size
    (place / "manifest.json").write_text(json.dumps(manifest))


FAULTS = {
    "infinite": lambda about: about["runtime"].update(seconds=float("inf")),
    "not a number": lambda about: about["runtime"].update(peak_memory=float("nan")),
    "no runtime": lambda about: about.pop("runtime"),
    "a runtime of text": lambda about: about.update(runtime="cpu"),
    "seconds of text": lambda about: about["runtime"].update(seconds="7"),
    "seconds beyond a float": lambda about: about["runtime"].update(seconds=10**400),
    "negative seconds": lambda about: about["runtime"].update(seconds=-1),
    "a size of text": lambda about: about["files"]["x.json"].update(size="1"),
    "a negative size": lambda about: about["files"]["x.json"].update(size=-1),
    "a size of a fraction": lambda about: about["files"]["x.json"].update(size=1.0),
    "a digest of a number": lambda about: about["files"]["x.json"].update(sha256=7),
    "files in a list": lambda about: about.update(files=["x.json"]),
    "a file of nothing": lambda about: about["files"].update({"x.json": None}),
    "no task": lambda about: about.update(task=None),
    "a stage of a number": lambda about: about["task"].update(stage=1),
    "a label of a list": lambda about: about.update(label=["x"]),
    "half a character": lambda about: about.update(label="\ud800"),
    "a path": lambda about: about["files"].update({"../x.json": about["files"]["x.json"]}),
}
TEXTS = {
    "depth": '{"task": ' + "[" * 100_000,
    "some depth": '{"task": ' + "[" * 300 + "]" * 300 + "}",
    "a list": "[]",
    "a number": "1",
    "1e999": '{"task": {}, "files": {}, "runtime": {"seconds": 1e999}}',
    "nothing": "",
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("name", [*FAULTS, *TEXTS])
def test_a_bad_manifest_is_named_and_hides_no_other(store, name):
    other = Task("train", "1", {"seed": 4})
    places = [
        store.write(task, {"x": 1}, {"seconds": 1.5, "peak_memory": 10}) for task in (TASK, other)
    ]
    path = places[0] / "manifest.json"
    if name in FAULTS:
        about = json.loads(path.read_text())
        FAULTS[name](about)
        path.write_text(json.dumps(about))
    else:
        text = TEXTS[name]
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert [entry.key for entry in store.ls()] == [other.key]
    assert store.inventory()[1] == 1
    assert store.sizes() == {"train": (1, 1)}
    assert list(store.manifests([TASK, other])) == [other.key]
    assert [problem.path for problem in store.verify()] == [path]
    with pytest.raises(BrokenResult, match=r"manifest\.json cannot be read"):
        store.read(TASK)
    assert store.read(other) == {"x": 1}
    store.discard(TASK)
    assert not store.has(TASK)
    assert store.has(other)


@pytest.mark.parametrize(
    ("name", "content"), [("x.npy", b""), ("x.safetensors", b""), ("x.json", b"[" * 100_000)]
)
def test_a_file_that_is_as_it_was_written_but_no_array_is_named_and_made_again(
    store, name, content
):
    place = store.write(TASK, {"x": 1}, {})
    (place / "x.json").unlink()
    (place / name).write_bytes(content)
    about = json.loads((place / "manifest.json").read_text())
    about["files"] = {name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    (place / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(BrokenResult, match=rf"artifact .*{name} cannot be read"):
        store.read(TASK)
    (problem,) = store.verify()
    assert problem.path == place / name
    assert problem.reason.startswith("not ")
    store.discard(TASK)
    assert not store.has(TASK)


def test_a_manifest_that_would_never_be_read_to_its_end_is_no_manifest(store):
    place = store.write(TASK, {"x": 1}, {})
    (place / "manifest.json").unlink()
    os.mkfifo(place / "manifest.json")
    assert store.ls() == []
    assert [problem.path.name for problem in store.verify()] == ["manifest.json"]


def test_gc_refuses_while_a_task_is_being_done_and_says_by_whom(store):
    place = store.write(TASK, {"x": 1}, {})
    claims = Claims(store.root)
    assert claims.take("k" * 64)
    with pytest.raises(
        StoreError,
        match=rf"1 of its tasks are being done now \(by process {os.getpid()} on .*; wait",
    ):
        store.gc([])
    assert place.exists()
    assert store.gc([], dry_run=True) == [place]
    claims.close()
    assert store.gc([]) == [place]
