"""Code outside this package, named by a config as `package.module:Name` or `...:Name@VERSION`.

It is imported and runs with the rights of the user: the config that names it is trusted as a script
is.

The keys of results that depend on such code hold its version: the VERSION that follows `@`, which
the author of a config raises when the code changes, and the versions of the installed distributions
that hold the module. Local files have none.
"""

import contextlib
import functools
import importlib
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

from bitleak.core.checks import label_text

_PATH = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_FORM = re.compile(rf"({_PATH}):({_PATH})(?:@(.+))?")


class OutsideName(NamedTuple):
    """The parts of `package.module:Name@VERSION`; `version` is empty if none is given."""

    module: str
    attribute: str
    version: str


def is_outside(name: object) -> bool:
    """Return whether a name means outside code; names of this package hold no colon.

    Example:
        >>> is_outside("zoo.attacks:Loudest"), is_outside("lira")
        (True, False)
    """
    return isinstance(name, str) and ":" in name


def parse_outside(name: str, kind: str) -> OutsideName:
    """Return the parts of a name of outside code.

    Args:
        name: As the config has it.
        kind: Expected kind of object, in the singular, for the message.

    Raises:
        ValueError: It is not written as one, or it is in the script that was started, which workers
            do not have.

    Example:
        >>> parse_outside("zoo.attacks:Loudest@2", "attack")
        OutsideName(module='zoo.attacks', attribute='Loudest', version='2')
    """
    match = _FORM.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{kind} must be a known name, 'package.module:Name' or 'package.module:Name@VERSION', got {name!a}"
        )
    module, attribute, version = match.groups(default="")
    if module == "__main__":
        raise ValueError(
            f"{kind} {name!r} is in the script that was started; put it in a module of its own"
        )
    return OutsideName(module, attribute, label_text(f"version of {kind}", version))


def load_outside(name: str, kind: str) -> Any:
    """Import the module and return the object.

    Raises:
        ValueError: As `parse_outside`; or the module cannot be imported, or has no such object.

    Example:
        >>> load_outside("zoo.attacks:Loudest", "attack")
        Traceback (most recent call last):
        ...
        ValueError: attack 'zoo.attacks:Loudest': cannot import zoo.attacks: No module named 'zoo' (is it installed, ...
    """
    module, attribute, _ = parse_outside(name, kind)
    try:
        value: Any = importlib.import_module(module)
    except Exception as error:  # foreign code may raise anything
        reason = (
            str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        )
        raise ValueError(
            f"{kind} {name!r}: cannot import {module}: {reason} (is it installed, or its folder on PYTHONPATH? "
            "PYTHONPATH=. adds this one)"
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ValueError(f"{kind} {name!r}: module {module} has no {attribute}")
        value = getattr(value, part)
    return value


def bare_name(name: str) -> str:
    """Return a name for people: the attribute of outside code, any other name as it is.

    Example:
        >>> bare_name("zoo.data:Blobs@2"), bare_name("digits")
        ('Blobs', 'digits')
    """
    return name.partition("@")[0].rpartition(":")[2] if is_outside(name) else name


def what_it_raised(error: Exception) -> str:
    """Return an error of outside code in words, with the remedy if it wrote into what it was given.

    Example:
        >>> what_it_raised(ValueError("output array is read-only"))
        'ValueError: output array is read-only; it must not change what it is given: make a copy first'
    """
    hint = "; it must not change what it is given: make a copy first"
    return f"{type(error).__name__}: {error}{hint if 'read-only' in str(error) else ''}"


def shown_name(name: str, value: object) -> str:
    """Return the name of an object in tables and files: its own attribute `name` if it is from outside and has one.

    Example:
        >>> shown_name("zoo.quantizers:Signs", object()), shown_name("rtn", object())
        ('Signs', 'rtn')
    """
    return str(getattr(value, "name", bare_name(name))) if is_outside(name) else name


def versioned(name: str) -> str:
    """Return the name for keys: outside code with the versions of its distributions.

    Example:
        >>> versioned("yaml:load@2") == f"yaml:load@2, PyYAML {metadata.version('PyYAML')}"
        True
        >>> versioned("lira")
        'lira'
    """
    if not is_outside(name):
        return name
    bare, _, version = name.partition("@")
    versions = [version] if version else []
    for distribution in distributions_of(bare.partition(".")[0].partition(":")[0]):
        versions.append(f"{distribution} {metadata.version(distribution)}")
    return f"{bare}@{', '.join(versions)}" if versions else bare


KITS = (
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "nncf",
    "ai_edge_litert",
    "torchao",
    "brevitas",
    "torch",
)
"""Packages of kits and runtimes, as they are imported."""


def kit_versions(packages: Iterable[str] = KITS) -> str:
    """Return the installed distributions of packages with their versions, in the order of `KITS`.

    Args:
        packages: Packages as they are imported, or distributions; those not installed are left out.

    Example:
        >>> kit_versions(["yaml", "no_such_kit"]) == f"PyYAML {metadata.version('PyYAML')}"
        True
    """
    places = {name: place for place, name in enumerate(KITS)}
    versions: dict[str, None] = {}
    for package in sorted(set(packages), key=lambda name: (places.get(name, len(KITS)), name)):
        # A package may come in a distribution of another name, such as onnxruntime-gpu.
        for distribution in distributions_of(package) or (package,):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[f"{distribution} {metadata.version(distribution)}"] = None
    return ", ".join(versions)


@functools.cache
def distributions_of(package: str) -> tuple[str, ...]:
    """Return the names of the installed distributions that hold a top-level package."""
    return tuple(sorted(set(_distributions().get(package, ()))))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
