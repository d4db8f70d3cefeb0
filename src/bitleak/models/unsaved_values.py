"""Values that a network holds outside its state dict, with digests, to name those that differ."""

import hashlib
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_MOST = 10_000
"""Items of a collection, and numbers of an array, that a digest covers at most."""
_OWN = frozenset(vars(nn.Module()))
_SCALARS = (bool, int, float, complex, str, bytes)


def unsaved(network: nn.Module, *, constants: bool = True) -> dict[str, str]:
    """Return digests of the values outside the state dict, by the name of their place.

    These are buffers that are not saved, attributes of modules and of their classes, variables
    that a `forward` encloses, and variables of the Python modules that define the classes. Layers
    of PyTorch are left out.

    Args:
        network: Any network.
        constants: Whether single numbers, texts and class attributes are among them, or only
            tensors, arrays and collections.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> network.register_buffer("mixed", torch.ones(2), persistent=False)
        >>> list(unsaved(network))
        ["buffer 'mixed'"]
    """
    digests: dict[str, str] = {}
    for name, value in _values(network):
        if constants or not isinstance(value, _SCALARS):
            digest = _digest(value)
            if digest:
                digests[name] = digest
    return digests


def differing_names(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ, or that only one of two networks has."""
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def _values(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield values with their names, each once."""
    # Instances, then their classes, then the Python modules that define these.
    classes: dict[type, None] = {}
    for prefix, module in network.named_modules():
        path = f"{prefix}." if prefix else ""
        for key in sorted(module._non_persistent_buffers_set):
            yield f"buffer '{path}{key}'", module._buffers[key]
        if _foreign(type(module)):
            for key, value in vars(module).items():
                if key not in _OWN:
                    yield f"attribute '{path}{key}'", value
            classes.update(dict.fromkeys(filter(_foreign, type(module).__mro__)))
    for kind in classes:
        for key, value in vars(kind).items():
            if not key.startswith("__"):
                yield f"attribute '{key}' of class {kind.__name__}", value
        # A decorator such as `torch.no_grad()` hides the function that encloses the variables.
        forward = getattr(vars(kind).get("forward"), "__wrapped__", vars(kind).get("forward"))
        code, cells = (
            getattr(forward, "__code__", None),
            getattr(forward, "__closure__", None) or (),
        )
        for key, cell in zip(getattr(code, "co_freevars", ()), cells, strict=True):
            yield f"variable '{key}' around the forward of {kind.__name__}", cell.cell_contents
    for name in dict.fromkeys(kind.__module__ for kind in classes):
        for key, value in vars(sys.modules.get(name, None) or object).items():
            if not key.startswith("__"):
                yield f"variable '{key}' of module {name}", value


def _foreign(kind: type) -> bool:
    return kind.__module__.partition(".")[0] not in ("torch", "builtins")


def _digest(value: Any) -> str:
    """Return a digest of a value, in the order of its items; empty for functions and modules."""
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided:
            return ""
        flat = value.detach().reshape(-1)[:_MOST].cpu().contiguous()
        return _hashed(
            f"{value.dtype} {tuple(value.shape)}", flat.view(torch.uint8).numpy().tobytes()
        )
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _hashed(
            f"{value.dtype} {value.shape}",
            np.ascontiguousarray(value.reshape(-1)[:_MOST]).tobytes(),
        )
    if isinstance(value, nn.Module):
        return _digest(value.state_dict())  # a layer in a list, which is not saved
    if isinstance(value, torch.Generator):
        return _hashed("Generator", value.get_state().numpy().tobytes())
    if isinstance(value, random.Random):
        return _hashed("Random", repr(value.getstate()).encode())
    if isinstance(value, np.random.Generator):
        return _hashed("Generator", repr(value.bit_generator.state).encode())
    if isinstance(value, np.random.RandomState):
        return _hashed("RandomState", repr(value.get_state()).encode())
    if isinstance(value, _SCALARS):
        return _hashed(type(value).__name__, repr(value)[:_MOST].encode())
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_digest(item) for item in list(value)[:_MOST]]
        return _hashed(type(value).__name__, "".join(parts).encode()) if any(parts) else ""
    return ""


def _hashed(kind: str, content: bytes) -> str:
    return hashlib.sha256(kind.encode() + b"\0" + content).hexdigest()[:12]
