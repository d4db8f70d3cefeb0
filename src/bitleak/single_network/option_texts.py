"""Texts of the command line's options, read as models, data sets and numbers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bitleak.config import external_model
from bitleak.config.yaml_files import yaml_value
from bitleak.core.checks import unknown_name
from bitleak.core.errors import ConfigError
from bitleak.registry import DATASETS, MODELS

_OPTION = r"[A-Za-z_]\w*="


def model_from_text(text: str) -> tuple[str, dict[str, Any]]:
    """Return the registry's name and the options of a model.

    The text is like `cnn:width=16`, `resnet18`, `timm:NAME` or `package.module:factory`.

    Options after the factory are arguments of the factory;
    `external:factory=...,options={...},version=...` takes every key that a config takes.

    Raises:
        ConfigError: The text is none of these.

    Example:
        >>> model_from_text("cnn:width=16,depth=2"), model_from_text("zoo.small:net")
        (('cnn', {'width': 16, 'depth': 2}), ('external', {'factory': 'zoo.small:net'}))
        >>> model_from_text("zoo:net,width=4")
        ('external', {'factory': 'zoo:net', 'options': {'width': 4}})
    """
    name, colon, rest = text.partition(":")
    if name == "external":
        return _external(_options(_parts(rest), "--model") if colon else {})
    if name in MODELS:
        return name, _options(_parts(rest), "--model") if colon else {}
    if not colon or re.match(_OPTION, rest):
        known = unknown_name("model", name, MODELS)
        raise ConfigError(f"--model: {known}; or give timm:NAME, or package.module:factory")
    attribute, *options = _parts(rest)
    return _external({"factory": f"{name}:{attribute}", "options": _options(options, "--model")})


def _external(raw: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    errors: list[str] = []
    model = external_model(raw, "--model", errors)
    if model is None:
        raise ConfigError("\n".join(error.replace("--model.", "--model ", 1) for error in errors))
    return model


def text_of_model(name: str, options: Mapping[str, Any]) -> str:
    """Return a model as `model_from_text` reads it.

    Example:
        >>> text_of_model("cnn", {"width": 16}), text_of_model("external", {"factory": "zoo:net"})
        ('cnn:width=16', 'zoo:net')
    """
    separator = ":"
    if name == "external" and set(options) <= {"factory", "options"}:
        name, options, separator = options["factory"], options.get("options", {}), ","
    values = ",".join(f"{key}={value}" for key, value in options.items())
    return f"{name}{separator}{values}" if values else name


def data_from_text(text: str) -> tuple[str, dict[str, Any]]:
    """Return the registry's name and the options of a data set.

    The text is like `digits`, `hub:PATH` or `arrays:FILE,limit=500`, or a local path.

    A path alone is read as `arrays` if it is a file, as `tiny_imagenet` if it is a folder with a
    `wnids.txt`, else as `hub`, which knows Parquet files and image folders.

    Raises:
        ConfigError: There is no data set of this name, and no such path.

    Example:
        >>> data_from_text("digits:limit=300"), data_from_text("hub:uoft-cs/cifar10,test=test")
        (('digits', {'limit': 300}), ('hub', {'path': 'uoft-cs/cifar10', 'test': 'test'}))
    """
    name, colon, rest = text.partition(":")
    if name in DATASETS:
        first, *options = _parts(rest)
        if not colon or re.match(_OPTION, first):
            return name, _options([first, *options], "--data") if colon else {}
        return name, {"path": first, **_options(options, "--data")}
    first, *options = _parts(text)
    path = Path(first)
    if not path.exists():
        known = unknown_name("data set", name, DATASETS)
        raise ConfigError(f"--data: {known}; nor is there a file or folder {first}")
    kind = (
        "arrays" if path.is_file() else "tiny_imagenet" if (path / "wnids.txt").exists() else "hub"
    )
    return kind, {"path": first, **_options(options, "--data")}


def whole_numbers(text: str, where: str) -> list[int]:
    """Return the whole numbers of a text such as `4,3`, in their order and without repetitions.

    Raises:
        ConfigError: A part is no whole number.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"-?\d+", part) for part in parts):
        raise ConfigError(
            f"{where}: expected whole numbers with commas between them, such as 4,3, got {text!r}"
        )
    return list(dict.fromkeys(map(int, parts)))


def channel_numbers(text: str, where: str) -> tuple[float, ...]:
    """Return the numbers of a text such as `0.49,0.48,0.45`.

    Raises:
        ConfigError: A part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{where}: expected one number per channel, such as 0.49,0.48,0.45, got {text!r}"
        ) from None


def _parts(text: str) -> list[str]:
    """Cut a text at the commas before a `KEY=`; paths and lists may hold commas."""
    return re.split(rf",(?={_OPTION})", text)


def _options(parts: list[str], where: str) -> dict[str, Any]:
    """Return the options of `KEY=VALUE` parts; values are read as YAML."""
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(
                f"{where}: expected NAME:KEY=VALUE,KEY=VALUE, got {part!r} where KEY=VALUE should be"
            )
        if key in options:
            raise ConfigError(f"{where}: {key!r} is given twice")
        try:
            options[key] = yaml_value(value)
        except yaml.YAMLError:
            raise ConfigError(f"{where}: {key}: the value must be YAML, got {value!r}") from None
    return options
