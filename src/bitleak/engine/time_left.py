"""How many seconds are left, from what tasks were expected to cost and what they took."""

import math
from collections import defaultdict
from collections.abc import Iterable

from bitleak.engine.keys import Task


class TimeLeft:
    """Seconds left = sum over unfinished tasks of cost * (1 - fraction) * pace, over the workers.

    The pace of a stage is the seconds that its finished tasks took over the seconds that they were
    expected to; where none has finished, the pace of all stages; 1 before anything has.

    Args:
        tasks: What is to do.
        workers: How many tasks are done at the same time.
    """

    def __init__(self, tasks: Iterable[Task], workers: int) -> None:
        self._left = {task.key: task for task in tasks}
        self._workers = workers
        self._fractions: dict[str, float] = {}
        self._taken: defaultdict[str, float] = defaultdict(float)
        self._expected: defaultdict[str, float] = defaultdict(float)

    def add(self, task: Task) -> None:
        """One more is to do."""
        self._left[task.key] = task

    def expected(self, task: Task) -> float:
        """Seconds that a task should take, by the pace so far."""
        return task.cost * self._pace(task.stage)

    def proceed(self, key: str, fraction: float) -> None:
        """A task in flight has got this far."""
        self._fractions[key] = fraction

    def finish(self, key: str, seconds: float | None = None) -> None:
        """A task needs no more time; `seconds` is what it took, None where that says nothing."""
        task = self._left.pop(key, None)
        if task and seconds is not None and task.cost > 0:
            self._taken[task.stage] += seconds
            self._expected[task.stage] += task.cost

    def remaining(self) -> float | None:
        """Seconds; None where no cost is known of anything that is left."""
        costs = [(task, task.cost * (1.0 - self._fractions.get(key, 0.0))) for key, task in self._left.items()]
        if self._left and not any(task.cost for task in self._left.values()):
            return None
        workers = max(1, min(self._workers, len(self._left)))
        return math.fsum(cost * self._pace(task.stage) for task, cost in costs) / workers

    def _pace(self, stage: str) -> float:
        if self._expected[stage] > 0:
            return self._taken[stage] / self._expected[stage]
        expected = math.fsum(self._expected.values())
        return math.fsum(self._taken.values()) / expected if expected > 0 else 1.0
