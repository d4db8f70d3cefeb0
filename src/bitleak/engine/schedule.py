"""Unfinished tasks: those that may start, and those that wait for inputs.

Among the batches that could start, the one at the head of the longest chain of expected seconds
comes first; if no costs are known, the order of the graph decides.
"""

import bisect
from collections import defaultdict
from collections.abc import Collection, Sequence

from bitleak.engine.graph import Graph, Shelf, batches, descendants
from bitleak.engine.keys import Task

_FIRST = float("inf")


class Schedule:
    """The tasks of a run that are to do, as batches that wait or are ready.

    Args:
        graph: All tasks.
        store: Which of them are done.

    Attributes:
        todo: Tasks of this run by key, in order; those that have ended too.
    """

    def __init__(self, graph: Graph, store: Shelf) -> None:
        self._graph = graph
        self.todo = {task.key: task for task in graph.pending(store)}
        self._open = set(self.todo)
        self._priority = _priorities(list(self.todo.values()))
        self._batches: dict[int, tuple[Task, ...]] = {}
        self._missing: dict[int, set[str]] = {}
        self._users: defaultdict[str, set[int]] = defaultdict(set)
        self._ready: list[tuple[float, int]] = []
        self._next = 0
        for batch in batches(self.todo.values()):
            self._add(batch.tasks)

    @property
    def ready(self) -> list[int]:
        """Numbers of the batches that may start, the most urgent first."""
        return [number for _, number in self._ready]

    @property
    def open(self) -> list[str]:
        """Keys of the tasks that have not ended, in order."""
        return [key for key in self.todo if key in self._open]

    def tasks(self, number: int) -> tuple[Task, ...]:
        """Return the tasks of a batch that has not been handed out."""
        return self._batches[number]

    def hand_out(self, number: int, keys: Collection[str]) -> None:
        """Mark tasks of a ready batch as handed out; its other tasks stay, as a new batch."""
        tasks = self._batches.pop(number)
        self._ready = [item for item in self._ready if item[1] != number]
        rest = tuple(task for task in tasks if task.key not in keys)
        if rest:
            self._add(rest)

    def finish(self, key: str) -> None:
        """Mark a result as stored: tasks that waited for it alone are ready."""
        self._open.discard(key)
        for number in self._users.pop(key, ()):
            self._missing[number].discard(key)
            self._make_ready(number)

    def abandon(self, key: str) -> list[Task]:
        """Mark a task as failed, and return it and its descendants, which will not run."""
        lost = [task for task in descendants(self.todo.values(), key) if task.key in self._open]
        self._open.difference_update({key}, (task.key for task in lost))
        return lost

    def reopen(self, key: str, damaged: str, store: Shelf) -> list[Task]:
        """Mark a task whose input is damaged: both are to do, and all that the input needs.

        Args:
            key: The task, which has been handed out.
            damaged: Key of its input, which has been removed from the store.
            store: Stored results.

        Returns:
            The additional tasks of the run.
        """
        graph = Graph(self._graph.tasks.values(), wanted=[damaged])
        again = [task for task in graph.pending(store) if task.key not in self._open]
        for task in again:
            self.todo[task.key] = task
            self._open.add(task.key)
            self._priority[task.key] = _FIRST
        for task in again:
            self._add((task,))
        self._add((self.todo[key],))
        return again

    def _add(self, tasks: Sequence[Task]) -> None:
        number, self._next = self._next, self._next + 1
        self._batches[number] = tuple(tasks)
        self._missing[number] = {key for key in tasks[0].input_keys if key in self._open}
        for key in self._missing[number]:
            self._users[key].add(number)
        self._make_ready(number)

    def _make_ready(self, number: int) -> None:
        if number in self._batches and not self._missing[number]:
            first = max(self._priority[task.key] for task in self._batches[number])
            bisect.insort(self._ready, (-first, number))


def _priorities(tasks: list[Task]) -> dict[str, float]:
    """Return expected seconds from the start of each task to the end of its longest chain."""
    longest = dict.fromkeys((task.key for task in tasks), 0.0)
    for task in reversed(tasks):
        longest[task.key] += task.cost
        for key in task.input_keys:
            if key in longest:
                longest[key] = max(longest[key], longest[task.key])
    return longest
