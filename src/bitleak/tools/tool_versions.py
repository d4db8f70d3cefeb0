"""The releases that decide a tool's result, which are part of its key, and no others.

| tool | releases |
|---|---|
| built in | the packages of its `PACKAGES`, and PyTorch |
| outside, in a module with `DISTRIBUTIONS` | the distributions named there, and PyTorch |
| outside otherwise | all installed ones of `KITS`, since it may use any of them |

On a processor on which ONNX Runtime's products of 8-bit integers saturate, the text says so where that
is among the releases: its files answer otherwise there.

So a result is kept when another kit is installed, and made anew by another release of its own kit.
`DISTRIBUTIONS` holds names as they are installed by pip, with that of the runtime that answers the
tool's files:

    DISTRIBUTIONS = ("optimum-quanto", "onnx", "onnxruntime")
"""

import importlib
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from bitleak import registry
from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.outside import KITS, kit_versions
from bitleak.core.types import NetworkFile
from bitleak.runtimes.integer_products import SATURATES, products_saturate
from bitleak.runtimes.packages import import_extra
from bitleak.runtimes.runtime import runtime_of

ALWAYS = ("torch",)
"""Packages that every tool depends on: the network is given as a module of PyTorch."""


def tool_versions(call: str) -> str:
    """Return the installed releases that decide a tool's result, as the text of keys.

    Args:
        call: A name of the registry's `TOOLS`, or `package.module:function@VERSION`.

    Raises:
        ModelError: One of them is not installed.
        ValueError: There is no such tool.
    """
    bare = call.partition("@")[0]
    if bare in registry.TOOLS:
        packages = built_in_packages(bare)
        for package, extra in packages.items():
            import_extra(package, extra, f"the tool {bare}")
        return _with_processor(
            kit_versions((*(name.partition(".")[0] for name in packages), *ALWAYS))
        )
    stated = _stated(registry.resolve(registry.TOOLS, bare, kind="tool"), bare)
    return _with_processor(kit_versions(KITS if stated is None else (*stated, *ALWAYS)))


def _with_processor(versions: str) -> str:
    """Return the text of keys with what the processor makes of ONNX Runtime's products."""
    used = any(entry.startswith("onnxruntime") for entry in versions.split(", "))
    used = used and find_spec("onnx") is not None  # no file is answered without it
    return f"{versions}, {SATURATES}" if used and products_saturate() else versions


def built_in_packages(name: str) -> dict[str, str]:
    """Return the packages of a tool of the registry, with the extra that installs each."""
    module = importlib.import_module(registry.TOOLS[name].partition(":")[0])
    return dict(module.PACKAGES)


def check_planned(call: str, planned_with: str) -> None:
    """Refuse a tool of other releases than those that the plan was made with.

    Args:
        call: As `tool_versions`.
        planned_with: The text of the key; not checked if empty.

    Raises:
        ModelError: This machine has other releases.
    """
    here = tool_versions(call) if planned_with else ""
    if here != planned_with:
        raise ModelError(
            f"the tool {call.partition('@')[0]} was planned with {planned_with}, but this machine has {here}"
        )


def check_runtime(call: str, planned_with: str, file: NetworkFile) -> None:
    """Refuse a file whose runtime is not among the releases of the key.

    Args:
        call: As `tool_versions`.
        planned_with: The text of the key; not checked if empty.
        file: The tool's result.

    Raises:
        ModelError: It is not: another release of it would be taken for the same.
    """
    name = runtime_of(file.runtime, file.options).version().partition(" ")[0]
    known = [entry.partition(" ")[0] for entry in planned_with.split(", ")]
    if planned_with and name not in known:
        bare = call.partition("@")[0]
        raise ModelError(
            f"the files of tool {bare!r} are answered by {name}, which {bare.partition(':')[0]}.DISTRIBUTIONS does not "
            "name; add it, so that another release of it is not taken for the same"
        )


def _stated(function: Callable[..., Any], bare: str) -> tuple[str, ...] | None:
    """Return the distributions that an outside tool's module names; None if it names none.

    Raises:
        ConfigError: They are no names.
        ModelError: One is not installed.
    """
    place = bare.partition(":")[0]
    stated = getattr(importlib.import_module(place), "DISTRIBUTIONS", None)
    if stated is None:
        return None
    if isinstance(stated, str) or not all(isinstance(name, str) for name in stated):
        raise ConfigError(
            f"{place}.DISTRIBUTIONS: expected names of distributions such as ('onnx', 'onnxruntime'), got {stated!r}"
        )
    for name in stated:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ModelError(
                f"the tool {bare} needs {name}, which is not installed: pip install {name}"
            ) from None
    return tuple(stated)
