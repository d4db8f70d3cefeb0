"""Which tasks there are, which of them are to do, and in which order.

A task is to do if its result is not in the store and either it is wanted or a task to do needs it.
So a result in the store needs none of its inputs: outputs brought from elsewhere are accepted
without the weights they came from.
"""

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bitleak.engine.keys import Task, canonical_json


@runtime_checkable
class Shelf(Protocol):
    """The part of a store that a plan needs."""

    def has(self, task: Task) -> bool:
        """Return whether the task is done."""


@dataclass(frozen=True)
class EmptyShelf:
    """A store in which nothing is done."""

    def has(self, task: Task) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class Batch:
    """Tasks that are handed to their stage together: same stage, version, inputs and group."""

    tasks: tuple[Task, ...]


class Graph:
    """Tasks by key, in an order in which every task comes after its inputs.

    Args:
        tasks: Tasks in any order; of tasks with the same key, the first is kept. Among tasks that
            could come next, the one listed first does.
        wanted: Keys of the requested results; None = of the tasks that no other task needs.

    Raises:
        ValueError: An input or a wanted key is not one of the tasks, or tasks need each other.

    Example:
        >>> data = Task("digits", "1")
        >>> model = Task("train", "1", {"seed": 0}, {"data": data.key})
        >>> [task.stage for task in Graph([model, data]).tasks.values()]
        ['digits', 'train']
    """

    def __init__(self, tasks: Iterable[Task], wanted: Collection[str] | None = None) -> None:
        listed: dict[str, Task] = {}
        for task in tasks:
            listed.setdefault(task.key, task)
        _check_inputs(listed)
        self.tasks = _sorted(listed)
        needed: set[str] = set()
        for task in listed.values():
            needed.update(task.input_keys)
        self.wanted = (
            tuple(key for key in self.tasks if key not in needed)
            if wanted is None
            else tuple(wanted)
        )
        unknown = [key for key in self.wanted if key not in self.tasks]
        if unknown:
            raise ValueError(
                f"wanted results must be results of the graph's tasks, got {unknown[0]}"
            )

    def pending(self, store: Shelf) -> list[Task]:
        """Return the tasks to do, in order."""
        todo: set[str] = set()
        open_keys = list(self.wanted)
        while open_keys:
            key = open_keys.pop()
            if key not in todo and not store.has(self.tasks[key]):
                todo.add(key)
                open_keys.extend(self.tasks[key].input_keys)
        return [task for key, task in self.tasks.items() if key in todo]


def batches(tasks: Iterable[Task]) -> list[Batch]:
    """Group tasks that can share work, by their `group`, in the order of each group's first."""
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        shared = (task.stage, task.version, canonical_json(task.inputs), task.group)
        groups.setdefault(task.key if task.group is None else shared, []).append(task)
    return [Batch(tuple(group)) for group in groups.values()]


def descendants(tasks: Iterable[Task], key: str) -> list[Task]:
    """Return the tasks, listed in order, that need a task, directly or not."""
    reached = {key}
    dependents = []
    for task in tasks:
        if reached.intersection(task.input_keys):
            reached.add(task.key)
            dependents.append(task)
    return dependents


def _check_inputs(tasks: dict[str, Task]) -> None:
    for task in tasks.values():
        missing = [key for key in task.input_keys if key not in tasks]
        if missing:
            raise ValueError(
                f"the inputs of {task.name} must be results of the graph's tasks, got {missing[0]}"
            )


def _sorted(tasks: dict[str, Task]) -> dict[str, Task]:
    # Kahn's algorithm; the heap keeps the given order among the tasks that could come next
    place = {key: index for index, key in enumerate(tasks)}
    users: dict[str, list[str]] = {key: [] for key in tasks}
    missing = {key: len(task.input_keys) for key, task in tasks.items()}
    for key, task in tasks.items():
        for source in task.input_keys:
            users[source].append(key)
    ready = [(place[key], key) for key, count in missing.items() if count == 0]
    order: dict[str, Task] = {}
    while ready:
        _, key = heapq.heappop(ready)
        order[key] = tasks[key]
        for user in users[key]:
            missing[user] -= 1
            if missing[user] == 0:
                heapq.heappush(ready, (place[user], user))
    if len(order) < len(tasks):
        names = ", ".join(task.name for key, task in tasks.items() if key not in order)
        raise ValueError(f"tasks need each other in a circle: {names}")
    return order
