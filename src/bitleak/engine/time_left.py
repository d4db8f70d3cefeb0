"""Seconds left, from expected costs of tasks and the time they took."""

import math
from collections import defaultdict
from collections.abc import Iterable

from bitleak.engine.keys import Task


class TimeLeft:
    """Seconds left = sum over unfinished tasks of cost * (1 - fraction) * pace, over the workers.

    The pace of a stage is the seconds that its finished tasks took over the seconds that they were
    expected to; if none has finished, the pace of all stages; 1 before any task has.

    Args:
        tasks: Unfinished tasks.
        workers: Number of tasks done at the same time.
    """

    def __init__(self, tasks: Iterable[Task], workers: int) -> None:
        self._left = {task.key: task for task in tasks}
        self._workers = workers
        self._fractions: dict[str, float] = {}
        self._taken: defaultdict[str, float] = defaultdict(float)
        self._expected: defaultdict[str, float] = defaultdict(float)

    def add(self, task: Task) -> None:
        """Add an unfinished task."""
        self._left[task.key] = task

    def expected(self, task: Task) -> float:
        """Return the seconds that a task should take, by the pace so far."""
        return task.cost * self._pace(task.stage)

    def proceed(self, key: str, fraction: float) -> None:
        """Note how far a task in flight has got."""
        self._fractions[key] = fraction

    def finish(self, key: str, seconds: float | None = None) -> None:
        """Note the end of a task; `seconds` is the time it took, or None if it is no
        measurement.
        """
        task = self._left.pop(key, None)
        if task and seconds is not None and task.cost > 0:
            self._taken[task.stage] += seconds
            self._expected[task.stage] += task.cost

    def remaining(self) -> float | None:
        """Return the expected seconds, or None if no unfinished task has a known cost."""
        costs = [
            (task, task.cost * (1.0 - self._fractions.get(key, 0.0)))
            for key, task in self._left.items()
        ]
        if self._left and not any(task.cost for task in self._left.values()):
            return None
        workers = max(1, min(self._workers, len(self._left)))
        return math.fsum(cost * self._pace(task.stage) for task, cost in costs) / workers

    def _pace(self, stage: str) -> float:
        if self._expected[stage] > 0:
            return self._taken[stage] / self._expected[stage]
        expected = math.fsum(self._expected.values())
        return math.fsum(self._taken.values()) / expected if expected > 0 else 1.0
