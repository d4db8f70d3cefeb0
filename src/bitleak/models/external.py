"""Networks from elsewhere: `timm:NAME`, or `package.module:factory`."""

import functools
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn

from bitleak.core.checks import unknown_name
from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.models.global_state import settings_kept
from bitleak.models.logit_output import answering
from bitleak.models.network_trial import Shape
from bitleak.models.trial import Trial, trial

TIMM = "timm:"
CLASS_PARAMETERS = ("num_classes", "classes", "n_classes")
CHANNEL_PARAMETERS = ("in_chans", "in_channels", "channels")
SIZE_PARAMETERS = ("size", "img_size", "image_size")
COLUMN_PARAMETERS = ("in_features", "columns", "n_features", "input_size", "input_dim")
"""Names for the number of columns of a table, in the place of channels and size."""

_FORM = "'timm:NAME' or 'package.module:factory'"


def external(
    classes: int,
    channels: int,
    size: int,
    *,
    factory: str = "",
    options: Mapping[str, Any] | None = None,
    version: str = "",
    name: str = "",
) -> nn.Module:
    """Return a network made by other code, after a trial on random images.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        size: Height and width of an image.
        factory: `timm:NAME` for a model of timm, which must be installed; or
            `package.module:factory`, importable from here. It is called with the numbers of classes
            and channels and the size of the images under its parameters for them
            (`CLASS_PARAMETERS`, `CHANNEL_PARAMETERS`, `SIZE_PARAMETERS`), and with the options; for
            a table, with the numbers of classes and columns (`COLUMN_PARAMETERS`).
        options: Further arguments of the factory, JSON values; they come before the numbers above.
        version: Raised by the user when the factory's code changes; a part of the keys of results,
            and nothing else.
        name: The factory, in specs that were stored before `factory` had a name of its own.

    Raises:
        ModelError: The module or the factory cannot be imported or called, an option is not one of
            its parameters, or its network cannot be audited on such images (see
            `bitleak.models.trial`).

    Example:
        >>> external(10, 3, 32, factory="timm")
        Traceback (most recent call last):
        ...
        bitleak.core.errors.ModelError: factory must be 'timm:NAME' or 'package.module:factory', got 'timm'
    """
    call = factory or name
    if not call:
        raise ModelError(f"model external needs the option 'factory', {_FORM}, which is missing")
    shape = Shape(classes, channels, size)
    result = _tried(call, options, shape)
    network: nn.Module = _maker(call, options, shape)()
    # Lazy parameters get their shapes in a first pass, without which there is nothing to train.
    if any(isinstance(parameter, nn.UninitializedParameter) for parameter in network.parameters()):
        with torch.no_grad():
            network.eval()(torch.zeros(2, *shape.of_input))
    return answering(network.train(), result.choices)


def trial_of(spec: ModelSpec) -> Trial | None:
    """Return the result of the trial of a spec's network.

    None for the networks of this package, which need none.

    Raises:
        ModelError: As `external`.
    """
    if spec.name != "external":
        return None
    return _tried(
        factory_of(spec) or "",
        spec.options.get("options"),
        Shape(spec.classes, spec.channels, spec.size),
    )


def factory_of(spec: ModelSpec) -> str | None:
    """Return the outside code that a spec names; None if it names none.

    Example:
        >>> factory_of(ModelSpec("external", {"factory": "zoo:net"}, 10, 3, 32, (0.5,) * 3, (0.25,) * 3))
        'zoo:net'
    """
    if spec.name != "external":
        return None
    return str(spec.options.get("factory") or spec.options.get("name") or "")


def split(factory: str) -> tuple[str, str]:
    """Return module and attribute of a factory.

    Raises:
        ModelError: It has another form, or it is in the script that was started, which workers do
            not have.

    Example:
        >>> split("zoo.small:net")
        ('zoo.small', 'net')
    """
    module, colon, attribute = factory.partition(":") if isinstance(factory, str) else ("", "", "")
    if not (module and colon and attribute):
        raise ModelError(f"factory must be {_FORM}, got {factory!r}")
    if module == "__main__":
        raise ModelError(
            f"factory {factory!r} is in the script that was started; put it in a module of its own"
        )
    return module, attribute


def _tried(call: str, options: Mapping[str, Any] | None, shape: Shape) -> Trial:
    return _trial(
        _callable(call), call, json.dumps(dict(options or {}), sort_keys=True, default=repr), shape
    )


@functools.lru_cache(maxsize=64)
def _trial(function: Callable[..., Any], call: str, options: str, shape: Shape) -> Trial:
    return trial(_maker(call, json.loads(options), shape), call, shape)


def _maker(call: str, options: Mapping[str, Any] | None, shape: Shape) -> Callable[[], Any]:
    """Return the call of a factory, all arguments bound."""
    function = _callable(call)
    first = [split(call)[1]] if call.startswith(TIMM) else []
    named = _arguments(function, call, dict(options or {}), shape, positional=len(first))

    def make() -> Any:
        try:
            with settings_kept():
                return function(*first, **named)
        except Exception as error:  # foreign code may raise anything
            # A factory of any keywords may make a network with a fixed number of channels.
            for key in CHANNEL_PARAMETERS:
                unwanted = f"unexpected keyword argument '{key}'" in str(error)
                if unwanted and key in named and key not in (options or {}):
                    del named[key]
                    return make()
            raise ModelError(f"{call} cannot be built: {type(error).__name__}: {error}") from error

    return make


def _callable(call: str) -> Callable[..., Any]:
    module, attribute = split(call)
    if call.startswith(TIMM):
        create: Callable[..., Any] = _timm().create_model
        return create
    holder = _imported(
        module, "is it installed, or its folder on PYTHONPATH? PYTHONPATH=. adds this one"
    )
    function = getattr(holder, attribute, None)
    if not callable(function):
        raise ModelError(f"module {module} has no function or class {attribute!r}")
    made: Callable[..., Any] = function
    return made


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        missing = error.name or "timm"
        raise ModelError(
            f"cannot import timm: {error} (install {missing} to use timm's models)"
        ) from error
    except Exception as error:
        # torchvision registers operators that an unfit PyTorch does not have.
        raise ModelError(
            f"cannot import timm: {error} (timm is installed, but cannot be loaded: torchvision, which it imports, "
            f"must be the release made for PyTorch {torch.__version__})"
        ) from error


def _imported(module: str, hint: str) -> Any:
    try:
        with settings_kept():
            return importlib.import_module(module)
    except Exception as error:  # foreign code may raise anything
        raise ModelError(f"cannot import {module}: {error} ({hint})") from error


def _numeric(parameter: inspect.Parameter) -> bool:
    """Return whether a number may take the place of its default: none, None or a number."""
    return parameter.default in (parameter.empty, None) or type(parameter.default) is int


def _arguments(
    function: Callable[..., Any],
    call: str,
    options: dict[str, Any],
    shape: Shape,
    *,
    positional: int,
) -> dict[str, Any]:
    """Return the options, and the shape of the data under the names that the factory has for it."""
    try:
        parameters = list(inspect.signature(function).parameters.values())[positional:]
    except (ValueError, TypeError):  # a builtin, which has none
        parameters = [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]
    takes_any = False
    known: dict[str, inspect.Parameter] = {}
    for parameter in parameters:
        takes_any = takes_any or parameter.kind == parameter.VAR_KEYWORD
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            known[parameter.name] = parameter
    for key in options:
        if key not in known and not takes_any:
            raise ModelError(unknown_name(f"option of {call}", key, known or {"none"}))

    # Options go before the shape of the data; the first parameter of a number's names gets it.
    arguments = dict(options)
    of_images = ((CHANNEL_PARAMETERS, shape.channels), (SIZE_PARAMETERS, shape.size))
    of_data = of_images if shape.size else ((COLUMN_PARAMETERS, shape.channels),)
    for names, value in ((CLASS_PARAMETERS, shape.classes), *of_data):
        if not options.keys().isdisjoint(names):
            continue
        numeric = [name for name in names if name in known and _numeric(known[name])]
        if numeric:
            arguments[numeric[0]] = value
        elif takes_any and names is not SIZE_PARAMETERS:
            arguments[names[0]] = value

    # A parameter that nothing gives a value would fail later, in words of Python.
    missing: list[str] = []
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            missing.append(name)
    if missing:
        offered = [CLASS_PARAMETERS, *(names for names, _ in of_data)]
        first = ", ".join(names[0] for names in offered)
        rest = ", ".join(chain.from_iterable(names[1:] for names in offered))
        raise ModelError(
            f"{call} needs {', '.join(missing)}, which options must give; the data's shape is offered as {first} "
            f"(or {rest})"
        )
    return arguments
