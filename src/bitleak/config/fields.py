"""Raw values checked against types and dataclasses; every mistake is collected."""

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from bitleak.core.checks import label_text, one_of, unknown_name
from bitleak.core.outside import is_outside
from bitleak.registry import resolve


def name_and_rest(
    raw: Any, where: str, table: Mapping[str, str], errors: list[str]
) -> tuple[str | None, dict[str, Any]]:
    """Return the `name` of an entry, a key of the table or a name of outside code, and its other
    keys.

    The name is None, with the mistake added to `errors`, if there is none.
    """
    if isinstance(raw, str):
        raw = {"name": raw}
    if not isinstance(raw, dict):
        errors.append(f"{where}: expected a mapping with a name, got {value_text(raw)}")
        return None, {}
    # YAML has keys that are numbers; as text, they are refused like any unknown key
    rest = {str(key): value for key, value in raw.items()}
    name = rest.pop("name", None)
    if not isinstance(name, str) or not (name in table or is_outside(name)):
        if name is None:
            problem = f"expected a name. Known: {', '.join(sorted(table))}"
        else:
            problem = unknown_name("name", name, table)
        errors.append(f"{where}.name: {problem}")
        return None, {}
    return name, rest


def entry_class(
    table: Mapping[str, str],
    name: str,
    where: str,
    kind: str,
    errors: list[str],
    *,
    members: Sequence[str],
) -> Any:
    """Return the dataclass of an entry, or None with the mistake added to `errors`.

    Args:
        table: A table of the registry.
        name: A key of it, or `package.module:Name`.
        where: The section.
        kind: Singular of the table's subject, for the message.
        errors: Mistakes are added to it.
        members: Fields and methods that code from outside must have.
    """
    try:
        cls = resolve(table, name, kind=kind)
    except ValueError as error:
        errors.append(f"{where}.name: {error}")
        return None
    # A field without a default is no attribute of its class.
    declared = [item.name for item in fields(cls)] if is_dataclass(cls) else []
    missing = [member for member in members if member not in declared and not hasattr(cls, member)]
    if not isinstance(cls, type) or not is_dataclass(cls) or missing:
        lacks = f", which has no {', '.join(missing)}" if missing else ""
        errors.append(
            f"{where}.name: {kind} {name!r} must be a frozen dataclass with {', '.join(members)}, got {cls!r}{lacks}"
        )
        return None
    try:
        typing.get_type_hints(cls)
    except Exception as error:  # a type of outside code that exists for type checkers only
        errors.append(f"{where}.name: {kind} {name!r}: types of its fields cannot be read: {error}")
        return None
    return cls


def section(cls: Any, raw: Any, where: str, errors: list[str], *, also: Sequence[str] = ()) -> Any:
    """Return an instance of the dataclass, or None with the mistakes added to `errors`.

    Args:
        cls: The dataclass; its fields are the keys.
        raw: A mapping, or None for an empty one.
        where: Dotted name of the section, for messages.
        errors: Mistakes are added to it.
        also: Further keys that the caller has taken out, for "did you mean".
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        errors.append(f"{where}: expected a mapping, got {value_text(raw)}")
        return None
    # A key is unknown, or its value has the field's type.
    before = len(errors)
    known = {item.name: item for item in fields(cls) if item.init}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in raw.items():
        if key not in known:
            errors.append(f"{where}.{key}: {unknown_name('key', key, [*known, *also])}")
            continue
        values[key] = typed_value(hints[key], value, f"{where}.{key}", errors)
    for key, item in known.items():
        if key not in values and item.default is MISSING and item.default_factory is MISSING:
            errors.append(f"{where}.{key}: missing; it has no default")
    if len(errors) > before:
        return None
    # The dataclass checks ranges itself; its message begins with the field if it is about one.
    try:
        return cls(**values)
    except ValueError as error:
        errors.append(
            f"{where}.{error}" if _names_field(str(error), known) else f"{where}: {error}"
        )
        return None


def typed_value(kind: Any, value: Any, where: str, errors: list[str]) -> Any:
    """Return the value as an instance of the type, or None with a mistake added to `errors`."""
    # In Python True is 1, and pydantic takes it for a number.
    if isinstance(value, bool) and kind is not bool and kind is not Any:
        errors.append(f"{where}: expected {_kind_name(kind)}, got {value!r}")
        return None
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        expected = _expected(kind, first)
        errors.append(f"{where}: expected {expected}, got {first.get('input', value)!r}")
        return None


def checked_value(
    check: Callable[..., Any], value: Any, where: str, errors: list[str], *limits: Any
) -> Any:
    """Return the result of a check, or None with its message added to `errors`."""
    try:
        return check(where, value, *limits)
    except ValueError as error:
        errors.append(str(error))
        return None


def number_list(raw: Any, where: str, errors: list[str]) -> list[float]:
    """Return the numbers of a list, or of a single number, ascending and without repetitions."""
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        errors.append(f"{where}: expected at least one number, got an empty list")
    numbers = set()
    for value in values:
        number = typed_value(float, value, where, errors)
        if number is not None:
            numbers.add(number)
    return sorted(numbers)


def name_list(
    raw: Any,
    where: str,
    known: Iterable[str],
    errors: list[str],
    *,
    load: Callable[[str], object] | None = None,
) -> tuple[Any, ...]:
    """Return one name or a list of them, in their order, each once.

    Args:
        raw: The section.
        where: Its name.
        known: The names that may be in it.
        errors: Mistakes are added to it.
        load: Loads the object that a name of outside code stands for, or raises ValueError; None allows known
            names only.
    """
    values = list(raw) if isinstance(raw, list | tuple) else [raw]
    if not values:
        errors.append(f"{where}: expected at least one of {', '.join(known)}, got an empty list")
    for value in values:
        try:
            if load is not None and is_outside(value):
                load(value)
            else:
                one_of(where.rstrip("s"), value, known)
        except ValueError as error:
            errors.append(f"{where}: {error}")
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str)))


def _expected(kind: Any, error: Any) -> str:
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else None
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected']}"
    return f"one of {', '.join(map(repr, choices))}" if choices else _kind_name(kind)


def _kind_name(kind: Any) -> str:
    """Return a type in words, for a message."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if kind in names:
        return names[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple or origin is list:
        return f"a list of {_kind_name(arguments[0])}"
    if origin is Literal:
        choices = ", ".join(map(repr, arguments))
        return f"one of {choices}" if len(arguments) > 1 else choices
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping of {_kind_name(arguments[0])} to {_kind_name(arguments[1])}"
    if arguments and origin in (types.UnionType, typing.Union) and type(None) not in arguments:
        return " or ".join(_kind_name(part) for part in arguments)
    if type(None) in arguments:
        types_ = [_kind_name(part) for part in arguments if part is not type(None)]
        return f"{' or '.join(types_)}, or null"
    return str(getattr(kind, "__name__", kind))


def _names_field(message: str, known: Mapping[str, Any]) -> bool:
    return message.split(" ", 1)[0].rstrip(":") in known


def plain_values(value: Any) -> Any:
    """Return a value made of mappings, lists and scalars alone, as YAML and JSON know them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value


def value_text(value: Any) -> str:
    """Return a value of the wrong type in words, for a message."""
    if value is None:
        return "nothing"
    return (
        f"{type(value).__name__} {value!r}"
        if not isinstance(value, dict | list)
        else f"a {type(value).__name__}"
    )


def label_value(raw: Any, where: str, errors: list[str]) -> Any:
    """Return a title or label that tables and pages can show as it is."""
    value = typed_value(str, raw, where, errors)
    return None if value is None else checked_value(label_text, value, where, errors)
