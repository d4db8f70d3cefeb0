"""Parameters as plain values, from which keys of results are made.

A key is a hash of all parameters of a task, so a field that a dataclass gains would rename every
result in every store. Such a field is declared with `later(default)` and left out of the parameters
while it has its default: earlier results stay valid, and a value that changes results makes new
ones.
"""

from collections.abc import Mapping
from dataclasses import Field, field, fields, is_dataclass
from typing import Any

_LATER = "later"


def later(default: Any) -> Any:
    """Declare a dataclass field that was added after results had been stored.

    Args:
        default: Value under which the results are equal to the earlier ones.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Query:
        ...     batch: int
        ...     keep: str = later("signals")
        >>> params_of(Query(64)), params_of(Query(64, "logits"))
        ({'batch': 64}, {'batch': 64, 'keep': 'logits'})
    """
    return field(default=default, metadata={_LATER: True})


def params_of(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as plain values, without later fields at their default."""
    values = {item.name: (item, getattr(instance, item.name)) for item in fields(instance)}
    return {
        name: _plain(value) for name, (item, value) in values.items() if not _left_out(item, value)
    }


def known_params(kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are later fields of `kind` at their default.

    Args:
        kind: A dataclass, or any other callable, whose options are returned as they are.
        options: Its arguments by name.
    """
    items = {item.name: item for item in fields(kind)} if is_dataclass(kind) else {}
    return {
        name: value
        for name, value in options.items()
        if name not in items or not _left_out(items[name], value)
    }


def _left_out(item: Field, value: Any) -> bool:
    return item.metadata.get(_LATER, False) and value == item.default


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return params_of(value)
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
