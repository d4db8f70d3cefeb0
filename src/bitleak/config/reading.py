"""A YAML file and `KEY=VALUE` settings as one raw mapping."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bitleak.config.fields import described
from bitleak.core.errors import ConfigError


def read(path: Path) -> dict[str, Any]:
    """The raw mapping of a YAML file.

    Raises:
        ConfigError: No such file, not YAML, a key given twice, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML config") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a YAML text file, got bytes that are not UTF-8 ({error.reason})") from None
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping with keys such as data and model, got {described(raw)}")
    return raw


def override(raw: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The mapping with `KEY=VALUE` settings applied; the value is read as YAML.

    Raises:
        ConfigError: A setting without `=`, or a path through something that is not a mapping or list.

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
            _assign(result, path.split("."), yaml.load(text, Loader=_Loader), path)
        except yaml.YAMLError:
            errors.append(f"--set {path}: the value must be YAML, got {text!r}")
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    return result


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: list[Any] = []
    for item, _ in node.value:
        key = loader.construct_object(item, deep=True)
        if not isinstance(key, str | int | float):
            raise yaml.constructor.ConstructorError(None, None, f"a key must be a name, got {key!r}", item.start_mark)
        if key in keys:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", item.start_mark)
        keys.append(key)
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _assign(target: Any, path: list[str], value: Any, whole: str) -> None:
    """Sets a value in nested mappings and lists, making mappings on the way."""
    head, rest = path[0], path[1:]
    if isinstance(target, list):
        if not head.isdigit() or int(head) >= len(target):
            raise ConfigError(f"--set {whole}: expected an index below {len(target)}, got {head!r}")
        if rest:
            _assign(target[int(head)], rest, value, whole)
        else:
            target[int(head)] = value
        return
    if not isinstance(target, dict):
        raise ConfigError(f"--set {whole}: {head!r} leads into {described(target)}, which has no fields")
    if rest:
        _assign(target.setdefault(head, {}), rest, value, whole)
    else:
        target[head] = value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
