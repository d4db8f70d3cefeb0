"""What tasks should take: as the same have taken, else as planned, to the scale of what was measured."""

import pytest

from bitleak import audit as library
from bitleak.audit.expected_tasks import INTERPRETER, expected
from bitleak.config import validate
from bitleak.engine.store import Store

RAW = {
    "data": {"name": "digits", "limit": 400},
    "split": {"models": 6, "targets": 2, "population": 30},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 2},
    "quantize": [{"name": "rtn", "levels": [4, 3]}],
    "calibration": {"records": 64},
}
GB = 10**9


@pytest.fixture(scope="module")
def prepared():
    return library.prepare(validate(RAW), device="cpu")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def of_stage(tasks, stage):
    return [task for task in tasks if task.stage == stage]


def test_without_a_measurement_the_plan_is_what_is_expected(prepared, store):
    found = expected(prepared, store)
    assert [(task.key, task.cost) for task in found] == [
        (task.key, task.cost) for task in prepared.plan.tasks
    ]
    assert all(task.memory > INTERPRETER for task in found)


def test_tasks_take_what_the_same_have_taken(prepared, store):
    trains = of_stage(prepared.plan.tasks, "train")
    for task, seconds, peak in zip(trains, (10.0, 14.0), (2 * GB, GB), strict=False):
        store.write(task, {}, {"device": "cpu", "seconds": seconds, "peak_memory": peak})
    found = expected(prepared, store)
    assert {(task.cost, task.memory) for task in of_stage(found, "train")} == {(12.0, 2 * GB)}
    scale = 12.0 / trains[0].cost  # the one thing that is known of all others
    for task, planned in zip(
        of_stage(found, "query"), of_stage(prepared.plan.tasks, "query"), strict=True
    ):
        assert task.cost == pytest.approx(scale * planned.cost)
        assert (
            task.memory
            == of_stage(expected(prepared, Store(store.root.with_name("empty"))), "query")[0].memory
        )


def test_what_another_type_of_device_has_taken_says_nothing(prepared, store):
    trains = of_stage(prepared.plan.tasks, "train")
    store.write(
        trains[0], {}, {"device": "cuda (NVIDIA H100)", "seconds": 0.5, "peak_memory": 9 * GB}
    )
    store.write(
        trains[1], {}, {"device": "cpu", "seconds": "soon"}
    )  # brought from elsewhere, who knows
    assert [task.cost for task in expected(prepared, store)] == [
        task.cost for task in prepared.plan.tasks
    ]


def test_attacks_need_more_memory_for_more_models_up_to_where_files_take_over(store, monkeypatch):
    def memory(models: int) -> int:
        found = library.prepare(
            validate({**RAW, "split": {**RAW["split"], "models": models}}), device="cpu"
        )
        return of_stage(expected(found, store), "attack")[0].memory - INTERPRETER

    assert memory(60) > 3 * memory(6)
    monkeypatch.setattr("bitleak.steps.scale.LARGE", 1000)
    assert memory(60) < 2 * memory(6)


def test_memory_of_a_quantization_grows_with_the_rounds_as_with_the_records():
    def memory(**calibration) -> int:
        raw = {
            **RAW,
            "data": {"name": "digits"},
            "calibration": {"augment": ["flip"], **calibration},
        }
        tasks = library.prepare(validate(raw), device="cpu").plan.tasks
        return of_stage(tasks, "quantize")[0].memory

    base, more = memory(records=10), memory(records=20)
    assert memory(records=10, rounds=10) - base == 9 * (more - base) > 0
