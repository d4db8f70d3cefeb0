import sys
from pathlib import Path

import numpy as np
import pytest

from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.threads import limited_threads
from bitleak.engine.worker import Progress, Runtime, outcomes, run_batch


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return Runtime(stages="toy_stages", data=str(tmp_path))


@pytest.fixture
def root(tmp_path):
    return str(Store(tmp_path / "store").root)


def powers(root, runtime, *values):
    source = Task("draw", "1", {"seed": 0, "size": 5000})
    run_batch(root, [source], runtime)
    return [
        Task("multiply", "1", {"power": value}, {"numbers": source.key}, group="g")
        for value in values
    ]


def test_results_and_what_they_were_made_with_are_committed(root, runtime):
    (task,) = powers(root, runtime, 2)
    (outcome,) = run_batch(root, [task], runtime)
    matrix = np.random.default_rng(0).normal(size=5000).reshape(-1, 50)
    entry = next(entry for entry in Store(root).ls() if entry.key == task.key)
    assert outcome.ok
    assert np.allclose(
        Store(root).read(task)["product"], np.linalg.matrix_power(matrix.T @ matrix / 100, 2)
    )
    assert entry.manifest["runtime"]["device"] == "cpu"
    names = {"device", "threads", "python", "bitleak", "numpy", "torch", "seconds", "peak_memory"}
    assert set(entry.manifest["runtime"]) == names
    assert 10 << 20 < entry.manifest["runtime"]["peak_memory"] < 2 << 30


def test_a_batch_is_handed_to_the_stage_as_one(root, runtime, tmp_path):
    outcomes = run_batch(root, powers(root, runtime, 1, 2, 3), runtime)
    assert [outcome.ok for outcome in outcomes] == [True] * 3
    assert (tmp_path / "notes").read_text().split("\n")[:-1] == ["multiply 3"] * 3


def test_what_is_done_already_is_not_handed_to_the_stage(root, runtime, tmp_path):
    tasks = powers(root, runtime, 1, 2, 3)
    run_batch(root, tasks[1:2], runtime)
    found = {outcome.key: outcome.cached for outcome in run_batch(root, tasks, runtime)}
    assert found == {tasks[0].key: False, tasks[1].key: True, tasks[2].key: False}
    assert (tmp_path / "notes").read_text().split("\n")[:-1] == [
        "multiply 1",
        "multiply 2",
        "multiply 2",
    ]


def test_one_failing_task_does_not_take_its_batch_along(root, runtime):
    tasks = powers(root, runtime, 1, -1, 3)
    found = {outcome.key: outcome for outcome in run_batch(root, tasks, runtime)}
    assert [found[task.key].ok for task in tasks] == [True, False, True]
    assert [Store(root).has(task) for task in tasks] == [True, False, True]


def test_each_result_is_committed_before_the_next_is_begun(root, runtime):
    tasks = powers(root, runtime, 1, 2)
    next(outcomes(root, tasks, runtime))
    assert [Store(root).has(task) for task in tasks] == [True, False]


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("input", "input", "told to fail"),
        ("error", "error", "ZeroDivisionError: told to fail"),
        ("exit", "error", "SystemExit: told to fail"),
    ],
)
def test_a_failure_is_told_in_a_line_and_logged_in_full(root, runtime, capfd, how, kind, text):
    (outcome,) = run_batch(
        root, [Task("fail", "1", {"how": how}, label="the one that fails")], runtime
    )
    log = Path(outcome.log).read_text()
    assert (outcome.ok, outcome.kind, outcome.text) == (False, kind, text)
    assert log.startswith("the one that fails\n")
    assert "Traceback" in log
    assert "toy_stages.py" in log
    assert capfd.readouterr() == ("", "")


def test_the_log_of_a_failure_goes_when_the_task_succeeds(root, runtime):
    (task,) = powers(root, runtime, 2)
    Path(root, "logs").mkdir()
    log = Path(root, "logs", f"{task.key}.log")
    log.write_text("an earlier attempt")
    assert run_batch(root, [task], runtime)[0].ok
    assert not log.exists()


def test_logs_go_where_the_runtime_says(root, runtime, tmp_path):
    elsewhere = Runtime(stages=runtime.stages, logs=str(tmp_path / "elsewhere"))
    (outcome,) = run_batch(root, [Task("fail", "1", {"how": "error"})], elsewhere)
    assert Path(outcome.log).parent == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task("unknown", "1"), "toy_stages has no stage 'unknown'"),
        (Task("total", "1", {}, {"parts": ("0" * 64,)}), f"holds no finished task {'0' * 64}"),
        (Task("draw", "1", {}), "KeyError: 'seed'"),
    ],
)
def test_what_cannot_start_fails_with_a_reason(root, runtime, task, text):
    (outcome,) = run_batch(root, [task], runtime)
    assert not outcome.ok
    assert text in outcome.text


def test_a_stage_that_yields_too_little_fails(root, runtime, monkeypatch):
    import toy_stages

    monkeypatch.setattr(toy_stages, "short", lambda params, *_: iter([{"x": 1}]), raising=False)
    tasks = [Task("short", "1", {"n": n}, group="g") for n in range(2)]
    first = next(outcomes(root, tasks, runtime))
    rest = list(outcomes(root, tasks[1:], runtime))
    assert first.ok
    assert rest[0].ok
    monkeypatch.setattr(toy_stages, "short", lambda params, *_: iter([]))
    (outcome,) = run_batch(root, [Task("short", "1", {"n": 2})], runtime)
    assert outcome.text.startswith("stage 'short' yielded nothing for short ")


def test_steps_name_the_task_in_flight(root, runtime):
    tasks = [Task("draw", "1", {"seed": seed}, group="g") for seed in range(2)]
    steps = []
    list(outcomes(root, tasks, runtime, steps.append))
    assert steps == [Progress(task.key, fraction) for task in tasks for fraction in (0.0, 0.5)]


def test_a_store_that_is_gone_fails_every_task(tmp_path, runtime):
    found = run_batch(
        str(tmp_path / "gone"), [Task("draw", "1", {"seed": seed}) for seed in range(2)], runtime
    )
    assert [(outcome.ok, outcome.kind) for outcome in found] == [(False, "input")] * 2


def test_threads_are_limited_inside_and_restored_outside(monkeypatch):
    class Torch:
        threads = 5

        def get_num_threads(self):
            return self.threads

        def set_num_threads(self, threads):
            self.threads = threads

    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    import os

    with limited_threads(1):
        assert (torch.threads, os.environ["OMP_NUM_THREADS"]) == (1, "1")
    assert (torch.threads, os.environ["OMP_NUM_THREADS"]) == (5, "7")


def test_libraries_are_limited_whenever_they_were_loaded(monkeypatch):
    """The search for libraries is repeated after an import alone."""
    kit = pytest.importorskip("threadpoolctl")
    searches = []

    class Counted(kit.ThreadpoolController):
        def __init__(self):
            searches.append(1)
            super().__init__()

    def pools():
        return {pool["filepath"]: pool["num_threads"] for pool in kit.threadpool_info()}

    monkeypatch.setattr(kit, "ThreadpoolController", Counted)
    monkeypatch.setitem(sys.modules, "imported_for_this_test", sys)
    with limited_threads(2):
        assert set(pools().values()) == {2}
    before, searches[:] = pools(), []
    for _ in range(3):
        with limited_threads(2):
            pass
    assert not searches
    monkeypatch.setitem(sys.modules, "imported_later", sys)
    with limited_threads(2):
        assert len(searches) == 1
    assert pools() == before
