"""Networks from elsewhere: `timm:NAME`, or `package.module:factory`."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bitleak.core.errors import ModelError

TIMM = "timm:"


def external(classes: int, channels: int, size: int, *, name: str) -> nn.Module:
    """A network made by other code, without pretrained weights, checked with a pass of two images.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Height and width of an image.
        name: `timm:NAME` for a model of timm, which must be installed; or `package.module:factory`,
            importable from here, called as `factory(num_classes=..., in_chans=...)` if it has
            parameters of these names, else as `factory(classes=..., channels=..., size=...)`.

    Raises:
        ModelError: The module or the factory cannot be imported or called, or what it makes is
            not a network from `records channels height width` to `records classes`.

    Example:
        >>> external(10, 3, 32, name="timm")
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: name must be 'timm:NAME' or 'package.module:factory', got 'timm'
    """
    module, colon, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not (module and colon and attribute):
        raise ModelError(f"name must be 'timm:NAME' or 'package.module:factory', got {name!r}")
    shape = {"classes": classes, "channels": channels, "size": size}
    network = _from_timm(attribute, shape) if name.startswith(TIMM) else _from_factory(module, attribute, shape)
    _check_output(network, name, shape)
    return network.train()


def _from_timm(name: str, shape: dict[str, int]) -> Any:
    timm = _imported("timm", "install timm, which needs torchvision, to use its models")
    return _called(timm.create_model, f"timm:{name}", name, **_arguments(timm.create_model, f"timm:{name}", shape))


def _from_factory(module: str, attribute: str, shape: dict[str, int]) -> Any:
    name = f"{module}:{attribute}"
    found = _imported(module, "is it installed, or its folder on PYTHONPATH?")
    if not callable(getattr(found, attribute, None)):
        raise ModelError(f"module {module} has no function or class {attribute!r}")
    factory = getattr(found, attribute)
    return _called(factory, name, **_arguments(factory, name, shape))


def _arguments(factory: Callable[..., Any], name: str, shape: dict[str, int]) -> dict[str, int]:
    parameters = inspect.signature(factory).parameters
    anything = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    if {"num_classes", "in_chans"} <= set(parameters) or (anything and "classes" not in parameters):
        return {"num_classes": shape["classes"], "in_chans": shape["channels"]}
    if set(shape) <= set(parameters):
        return shape
    came = ", ".join(parameters) or "none"
    raise ModelError(f"{name} must take (num_classes, in_chans) or (classes, channels, size); its parameters: {came}")


# Foreign code may raise anything, so the three functions below catch Exception.


def _imported(module: str, hint: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise ModelError(f"cannot import {module}: {error} ({hint})") from error


def _called(factory: Callable[..., Any], name: str, *arguments: str, **shape: int) -> Any:
    try:
        return factory(*arguments, **shape)
    except Exception as error:
        raise ModelError(f"{name} cannot be built: {type(error).__name__}: {error}") from error


def _check_output(network: Any, name: str, shape: dict[str, int]) -> None:
    if not isinstance(network, nn.Module):
        raise ModelError(f"{name} must make a torch.nn.Module, got {type(network).__name__}")
    images = torch.zeros(2, shape["channels"], shape["size"], shape["size"])
    text = f"{shape['channels']}x{shape['size']}x{shape['size']}"
    try:
        with torch.no_grad():
            output = network.eval()(images)
    except Exception as error:
        raise ModelError(f"{name} does not take images of {text}: {type(error).__name__}: {error}") from error
    came = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if came != (2, shape["classes"]):
        raise ModelError(f"{name} must answer two images with shape (2, {shape['classes']}), got {came}")
