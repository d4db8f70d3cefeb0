"""Packages of the extras, imported when they are needed."""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from bitleak.core.errors import ModelError


def import_extra(package: str, extra: str, purpose: str) -> Any:
    """Import a package of an extra.

    Args:
        package: Name of the module.
        extra: Name of the extra that installs it.
        purpose: Use of the package, for the message.

    Raises:
        ModelError: It is not installed, or cannot be imported.

    Example:
        >>> import_extra("no_such_runtime", "onnx", "opening an .onnx file")
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: opening an .onnx file needs the package no_such_runtime, ...
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{purpose} needs the package {error.name or package}, which is not installed: "
            f"pip install 'bitleak[{extra}]'"
        ) from error
    except ImportError as error:
        raise ModelError(
            f"{purpose} needs the package {package}, which is broken: {error}"
        ) from error


@contextlib.contextmanager
def quiet_packages() -> Iterator[None]:
    """Silence warnings and log messages of other packages; errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
