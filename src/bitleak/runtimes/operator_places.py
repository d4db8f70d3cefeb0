"""The operator at which two ways of running a graph part, or at which numbers stop being finite.

Operators are numbered in the graph's order, in which every operator follows those that it reads.
An output that is handed out changes the rewriting of a graph, so that operators are looked at
one at a time where two sessions are compared.

Cost: about log2(operators) pairs of runs for a difference, one run per `CHUNK` operators else.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

CHUNK = 16
"""Operators whose outputs are held at a time."""

OperatorOutputs = Callable[[Sequence[int]], Sequence[np.ndarray]]
"""Returns the outputs of operators by their numbers; empty arrays for those without floats."""


class GraphOperator(NamedTuple):
    """An operator of a graph.

    Attributes:
        label: Kind and name, for messages.
        inputs: Numbers of the operators that it reads.
    """

    label: str
    inputs: tuple[int, ...]


def first_difference(
    operators: Sequence[GraphOperator], differs: Callable[[int], bool]
) -> int | None:
    """Return an operator whose output differs while those that it reads agree.

    Args:
        operators: The graph's operators; the last one is that of the answers.
        differs: Whether the output of an operator differs between two sessions.

    Returns:
        Its number; None if the last output agrees as soon as it is looked at.

    Example:
        >>> chain = [GraphOperator(name, (place - 1,) if place else ()) for place, name in enumerate("abcdef")]
        >>> first_difference(chain, lambda place: place >= 2)
        2
    """
    low, high = 0, len(operators) - 1
    if high < 0 or not differs(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if differs(middle) else (middle + 1, high)
    # On a graph with branches, an operator on another branch may agree after the first that differs.
    while True:
        before = [place for place in operators[low].inputs if differs(place)]
        if not before:
            return low
        low = before[0]


def first_not_finite(operators: Sequence[GraphOperator], outputs: OperatorOutputs) -> int | None:
    """Return the first operator with an output that is NaN or infinite; None if there is none.

    Args:
        operators: The graph's operators.
        outputs: Their outputs.
    """
    for start in range(0, len(operators), CHUNK):
        places = range(start, min(start + CHUNK, len(operators)))
        for place, values in zip(places, outputs(places), strict=True):
            if not np.isfinite(values).all():
                return place
    return None
