"""Predicted times against closed forms, bounds, and a run that really happens."""

import math
import random

import pytest

from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.simulate import Site, simulate


def task(name, cost, *inputs, stage="work", group=None):
    return Task(
        stage, "1", {"name": name}, {"x": tuple(one.key for one in inputs)}, cost=cost, group=group
    )


def fan(count, cost=1.0):
    source = task("source", 2.0, stage="images")
    parts = [task(f"part {index}", cost, source) for index in range(count)]
    return [source, *parts, task("sink", 3.0, *parts)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 12, 100])
def test_a_fan_takes_as_many_rounds_as_its_parts_need(workers):
    found = simulate(Graph(fan(12)), Site(workers=workers))
    assert found.seconds == pytest.approx(2.0 + math.ceil(12 / workers) + 3.0)
    assert found.busy == pytest.approx(17.0 / (found.seconds * workers))
    assert found.longest == 6.0


def test_a_chain_gains_nothing_from_workers():
    chain = [task("0", 1.5)]
    for name in "12345":
        chain.append(task(name, 1.5, chain[-1]))
    assert {simulate(Graph(chain), Site(workers=workers)).seconds for workers in (1, 4)} == {9.0}


def test_any_graph_lies_between_the_bounds_of_list_scheduling():
    chance = random.Random(0)
    for _ in range(30):
        tasks = []
        for index in range(25):
            inputs = chance.sample(tasks, min(len(tasks), chance.randrange(3)))
            tasks.append(task(str(index), chance.random(), *inputs))
        total = sum(one.cost for one in tasks)
        for workers in (1, 2, 5, 40):
            found = simulate(Graph(tasks), Site(workers=workers))
            least = max(found.longest, total / workers)
            assert (
                least - 1e-9 <= found.seconds <= total / workers + found.longest + 1e-9
            )  # Graham's bound
            assert workers > 1 or found.seconds == pytest.approx(total)


def test_tasks_of_a_group_go_to_one_worker_together():
    apart = [task(str(index), 1.0) for index in range(4)]
    together = [task(str(index), 1.0, group="g") for index in range(4)]
    assert simulate(Graph(apart), Site(workers=4)).seconds == 1.0
    assert simulate(Graph(together), Site(workers=4)).seconds == 4.0


def test_each_part_of_the_overhead_adds_what_it_says():
    source, user = task("source", 1.0, stage="images"), task("user", 2.0)
    user = task("user", 2.0, source)
    site = Site(
        1,
        start=10.0,
        dispatch=0.5,
        overhead=0.25,
        latency=0.1,
        reads=2.0,
        writes=4.0,
        bandwidth=100.0,
    )
    found = simulate(Graph([source, user]), site, sizes={source.key: 50, user.key: 20})
    # start, twice dispatch, overhead and writes, one read, costs, 50 bytes written and read, 20 written
    assert found.seconds == pytest.approx(10 + 1.0 + 0.5 + 0.8 + 0.2 + 3.0 + 0.5 + 0.5 + 0.2)
    assert (found.driver, found.moved) == (1.0, 120)


def test_a_store_that_is_too_slow_for_all_serves_them_one_after_the_other():
    tasks = [task(str(index), 0.0) for index in range(10)]
    sizes = {one.key: 100 for one in tasks}
    assert simulate(Graph(tasks), Site(10, bandwidth=100.0), sizes=sizes).seconds == pytest.approx(
        1.0
    )
    assert simulate(
        Graph(tasks), Site(10, bandwidth=100.0, total=100.0), sizes=sizes
    ).seconds == pytest.approx(10.0)


def test_a_driver_that_is_too_slow_starts_them_one_after_the_other():
    tasks = [task(str(index), 1.0) for index in range(10)]
    assert simulate(Graph(tasks), Site(10, dispatch=2.0)).seconds == pytest.approx(21.0)


def test_what_is_kept_is_read_once_per_worker():
    tasks = fan(4)
    sizes = {tasks[0].key: 100}
    moved = {
        (workers, kept): simulate(Graph(tasks), Site(workers, reused=kept), sizes=sizes).moved
        for workers in (1, 2)
        for kept in ((), ("images",))
    }
    assert moved == {(1, ()): 500, (1, ("images",)): 200, (2, ()): 500, (2, ("images",)): 300}


def test_what_is_done_costs_nothing():
    tasks = fan(4)

    class Done:
        def has(self, one):
            return one.params["name"] != "sink"

    assert simulate(Graph(tasks), Site(2), store=Done()).seconds == 3.0
    assert (
        simulate(
            Graph(tasks), Site(2), store=type("All", (), {"has": lambda self, one: True})()
        ).seconds
        == 0.0
    )


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="workers must be an integer of at least 1, got 0"):
        simulate(Graph([]), Site(0))
