"""What a run does about results that are not as they were written, and about a store that takes nothing more."""

from pathlib import Path

import pytest

from bitleak.core.errors import StoreError
from bitleak.engine.claims import Claims
from bitleak.engine.execution import run_tasks
from bitleak.engine.executors.serial import Serial
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime

HERE = Path(__file__).parent

DRAWS = [Task("draw", "1", {"seed": seed, "size": 5000}) for seed in range(3)]
POWERS = [Task("multiply", "1", {"power": 2}, {"numbers": draw.key}) for draw in DRAWS]
TOTAL = Task("total", "1", {}, {"parts": tuple(task.key for task in POWERS)})
ALL = [*DRAWS, *POWERS, TOTAL]


@pytest.fixture
def runtime(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    return Runtime(stages="toy_stages")


@pytest.fixture
def store(tmp_path, runtime):
    """A store in which all is done but the last."""
    store = Store(tmp_path / "store")
    complete(store, runtime, ALL)
    store.remove(store.path(TOTAL))
    return store


def complete(store, runtime, tasks, **options):
    return run_tasks(Graph(tasks), store, Serial(str(store.root), runtime), **options)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def files(store: Store) -> dict[str, dict]:
    return {entry.key: entry.manifest["files"] for entry in store.ls()}


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_input_is_thrown_away_and_made_again(store, runtime, damage):
    before, events = files(store), []
    damage(store.path(POWERS[1]) / "product.npy")
    report = complete(store, runtime, ALL, on_event=events.append)
    assert set(report.done) == {POWERS[1].key, TOTAL.key}
    assert not report.failed
    assert {key: value for key, value in files(store).items() if key != TOTAL.key} == before
    assert store.verify() == []
    assert [event.task.key for event in events if event.kind == "repair"] == [POWERS[1].key]
    assert not list((store.root / "logs").glob("*"))


def test_what_a_damaged_input_was_made_from_is_made_again_if_it_is_gone_too(store, runtime):
    flip(store.path(POWERS[0]) / "product.npy")
    truncate(store.path(POWERS[2]) / "manifest.json")
    truncate(store.path(DRAWS[0]) / "numbers.npy")
    store.remove(store.path(DRAWS[2]))
    report = complete(store, runtime, ALL)
    assert set(report.done) == {DRAWS[0].key, DRAWS[2].key, POWERS[0].key, POWERS[2].key, TOTAL.key}
    assert not report.failed
    assert store.verify() == []


def test_a_result_that_is_damaged_whenever_it_is_made_fails_what_needs_it(
    store, runtime, monkeypatch
):
    write = Store.write

    def write_badly(self, task, artifacts, about):
        place = write(self, task, artifacts, about)
        if task == POWERS[0]:
            truncate(place / "product.npy")
        return place

    truncate(store.path(POWERS[0]) / "product.npy")
    monkeypatch.setattr(Store, "write", write_badly)
    report = complete(store, runtime, ALL)
    assert [outcome.key for outcome in report.failed] == [TOTAL.key]
    assert "product.npy cannot be read" in report.failed[0].text


def test_a_full_store_ends_the_run_and_the_next_one_goes_on(tmp_path, runtime, monkeypatch):
    store, write, written = Store(tmp_path / "store"), Store.write, []

    def write_a_little(self, task, artifacts, about):
        if len(written) == 2:
            raise StoreError("store x cannot be written to: No space left on device")
        written.append(task.key)
        return write(self, task, artifacts, about)

    monkeypatch.setattr(Store, "write", write_a_little)
    first = complete(store, runtime, ALL)
    monkeypatch.setattr(Store, "write", write)
    second = complete(store, runtime, ALL)
    assert first.done == tuple(written)
    assert [outcome.text for outcome in first.failed] == [
        "store x cannot be written to: No space left on device"
    ]
    assert len(first.not_run) == len(ALL) - 3  # none of which was computed in vain
    assert set(second.done) == {task.key for task in ALL} - set(written)


def test_a_store_that_takes_no_claim_ends_the_run(tmp_path, runtime, monkeypatch):
    def refuse(self, key):
        raise StoreError("store x cannot be written to: Read-only file system")

    monkeypatch.setattr(Claims, "take", refuse)
    store = Store(tmp_path / "store")
    report = complete(store, runtime, ALL)
    assert [outcome.text for outcome in report.failed] == [
        "store x cannot be written to: Read-only file system"
    ]
    assert len(report.not_run) == len(ALL) - 1
    assert report.done == ()
