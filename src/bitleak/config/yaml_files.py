"""A YAML file and `KEY=VALUE` settings as one raw mapping."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bitleak.config.fields import value_text
from bitleak.core.damage import reason
from bitleak.core.errors import ConfigError

LARGEST_CONFIG = 1 << 20
"""Most bytes of a config."""

DEEPEST_CONFIG = 32
"""Most levels to which a config may be nested."""

MOST_VALUES = 100_000
"""Most values of a config, with those that aliases repeat."""

_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
)


def read_config(path: Path) -> dict[str, Any]:
    """Return the raw mapping of a YAML file.

    Raises:
        ConfigError: No such file, not YAML, a key given twice, more than configs hold, or not a
            mapping.
    """
    # At most one byte more than allowed is read, since the path may lead to a device.
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CONFIG + 1)
        if len(content) > LARGEST_CONFIG:
            raise ConfigError(
                f"{path}: expected a YAML config of at most {LARGEST_CONFIG:,} bytes, got more"
            )
        text = content.decode("utf-8").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of a YAML config"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected a YAML text file, got bytes that are not UTF-8 ({error.reason})"
        ) from None
    try:
        raw = yaml_value(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path}: expected a mapping with keys such as data and model, got {value_text(raw)}"
        )
    return raw


def override(raw: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the mapping with `KEY=VALUE` settings applied; values are read as YAML.

    Raises:
        ConfigError: A setting without `=`, or a path through something that is not a mapping or
            list.

    Example:
        >>> override({"train": {"epochs": 3}}, ["train.epochs=5", "fpr=[0.01]"])
        {'train': {'epochs': 5}, 'fpr': [0.01]}
    """
    result = _copied(raw)
    errors = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            errors.append(f"--set expects KEY=VALUE, got {setting!r}")
            continue
        try:
            _assign(result, path.split("."), yaml_value(text), path)
        except yaml.YAMLError:
            errors.append(f"--set {path}: the value must be YAML, got {text!r}")
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    return result


def yaml_value(text: str) -> Any:
    """Return the value of a YAML text: mappings, lists, numbers, truth values and text alone; dates
    are text.

    Raises:
        yaml.YAMLError: It is no YAML, a key is given twice, another tag is used, or it is nested
            deeper, or holds more once its aliases are followed, than any config.

    Example:
        >>> yaml_value("{a: [1, 2.5], b: 2026-02-30}")
        {'a': [1, 2.5], 'b': '2026-02-30'}
    """
    return yaml.load(text, Loader=_Loader)


def _allowed(resolvers: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the patterns of PyYAML that lead to types which a config may hold."""
    return [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]


class _Loader(yaml.SafeLoader):
    """Safe YAML of few types, without keys given twice, whose aliases do not grow."""

    yaml_implicit_resolvers = {  # noqa: RUF012 -- as in PyYAML; dates are text
        first: _allowed(resolvers)
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values: dict[Any, int] = {}
        """Number of values that a node stands for, aliases followed."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Compose a node, unless it is too deep, inside itself, or holds too much."""
        # The depth is counted before the node is composed, so that no text can exhaust the stack.
        self._depth += 1
        event = self.peek_event()
        mark = event.start_mark
        if self._depth > DEEPEST_CONFIG:
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {DEEPEST_CONFIG} deep", mark
            )
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and node not in self._values:
            raise yaml.composer.ComposerError(None, None, "an alias of what it is in", mark)
        # An alias counts as its whole node: a few lines of aliases of aliases would stand for
        # billions of values.
        self._values[node] = 1 + sum(self._values[child] for child in _children(node))
        if self._values[node] > MOST_VALUES:
            raise yaml.composer.ComposerError(
                None, None, f"more than {MOST_VALUES:,} values, aliases followed", mark
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a node's value, with an error of YAML for any fault of its text."""
        if node.tag not in _TAGS:
            raise yaml.constructor.ConstructorError(
                None, None, f"tag {node.tag!r} is not for configs", node.start_mark
            )
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, reason(error), node.start_mark
            ) from error


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return list(itertools.chain.from_iterable(node.value))
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: list[Any] = []
    for item, _ in node.value:
        key = loader.construct_object(item, deep=True)
        if not isinstance(key, str | int | float):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key must be a name, got {key!r}", item.start_mark
            )
        if key in keys:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice", item.start_mark
            )
        keys.append(key)
    return {
        key: loader.construct_object(value, deep=True)
        for key, (_, value) in zip(keys, node.value, strict=True)
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _assign(target: Any, path: list[str], value: Any, setting: str) -> None:
    """Set a value in nested mappings and lists, making mappings on the way."""
    head, remaining = path[0], path[1:]
    if isinstance(target, list):
        if not head.isdigit() or int(head) >= len(target):
            raise ConfigError(
                f"--set {setting}: expected an index below {len(target)}, got {head!r}"
            )
        if remaining:
            _assign(target[int(head)], remaining, value, setting)
        else:
            target[int(head)] = value
        return
    if not isinstance(target, dict):
        raise ConfigError(
            f"--set {setting}: {head!r} leads into {value_text(target)}, which has no fields"
        )
    if remaining:
        _assign(target.setdefault(head, {}), remaining, value, setting)
    else:
        target[head] = value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
