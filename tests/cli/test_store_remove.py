"""`bitleak store remove` takes single results out of the store, and nothing before all keys are known."""

import pytest

from bitleak.cli import main
from bitleak.engine.keys import Task
from bitleak.engine.store import Store

TASKS = [Task("draw", "1", {"seed": seed}) for seed in range(3)]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    for task in TASKS:
        store.write(task, {"x": task.params["seed"]}, {})
    return store


def test_named_results_are_removed_and_no_others(store, capsys):
    assert (
        main(["store", "remove", TASKS[0].key, TASKS[2].key[:8], "--store", str(store.root)]) == 0
    )
    assert [store.has(task) for task in TASKS] == [False, True, False]
    assert "2 results removed" in capsys.readouterr().out
    assert store.read(TASKS[1]) == {"x": 1}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("0" * 64, "holds 0 results whose key begins with 0000"),
        (TASKS[1].key[:7], "a key is 64 hexadecimal digits, of which 8 or more are needed"),
        ("../../etc/passwd", "a key is 64 hexadecimal digits"),
    ],
)
def test_an_unknown_key_removes_nothing(store, capsys, key, message):
    assert main(["store", "remove", TASKS[0].key, key, "--store", str(store.root)]) == 2
    assert message in capsys.readouterr().err
    assert all(store.has(task) for task in TASKS)


def test_a_result_without_a_manifest_can_be_removed(store):
    place = store.path(TASKS[0])
    (place / "manifest.json").unlink()
    assert main(["store", "remove", TASKS[0].key, "--store", str(store.root)]) == 0
    assert not place.exists()
