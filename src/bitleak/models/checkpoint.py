"""Weights that were trained elsewhere: `.safetensors`, or a checkpoint that `torch.save` wrote.

A checkpoint is read with `weights_only=True`, so only tensors and plain containers are made, and no
code in the file runs. Its state dict may be nested under the usual names (`model`, `state_dict`,
`weights`, ...); the names of tensors are brought to the network's by `tensor_names`.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build
from bitleak.models.network_size import shared_names
from bitleak.models.tensor_names import fitted_names, with_shared_names
from bitleak.registry import CHECKPOINT_SUFFIXES

NESTED = ("state_dict", "model_state_dict", "model", "weights", "network", "net", "ema")
"""Keys that checkpoints keep the state dict under, the most usual first."""

DEEPEST = 4
"""Levels of nesting that are searched for the state dict."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights as they are in a file.

    Attributes:
        tensors: Arrays by their names in the file; floating-point tensors of any width are float32.
        notes: How the file was read, a sentence each.
        facts: Plain values of the file besides the weights, such as the arguments of the training.
    """

    tensors: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path, where: str) -> Checkpoint:
    """Read the state dict of a file.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote.
        where: Name of the option, for messages.

    Raises:
        ModelError: There is no such file, it is neither kind of file, it holds objects besides
            tensors and plain containers, it holds no state dict, or a number is not finite.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such file"
        raise ModelError(f"{where}: {path}: {reason}; give a .safetensors or .pt file")
    facts: Mapping[str, Any] = {}
    if path.suffix in CHECKPOINT_SUFFIXES:
        loaded = _loaded(path, where)
        tensors, notes = _state_dict(loaded, path, where)
        # A bare state dict has tensors at the top, and says nothing else.
        if isinstance(loaded, Mapping):
            facts = {str(key): value for key, value in loaded.items() if key not in tensors}
    else:
        try:
            tensors, notes = dict(safetensors.torch.load_file(path)), ()
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise ModelError(
                f"{where}: {path}: not a .safetensors file ({error}); files of torch.save need one "
                f"of the suffixes {' '.join(CHECKPOINT_SUFFIXES)}"
            ) from None
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelError(
                f"{where}: {path}: tensor {name!r} holds NaN or infinite values; give trained weights"
            )
    return Checkpoint(arrays, notes, facts)


def fit_checkpoint(
    checkpoint: Checkpoint, spec: ModelSpec, where: str
) -> tuple[Weights, tuple[str, ...]]:
    """Return the weights under the names of a spec's network, and how they were read.

    Raises:
        ModelError: A tensor is missing, unknown or of another shape.
    """
    fresh = build(spec, seed=0)
    expected = fresh.state_dict()
    tensors, renamed = fitted_names(
        with_shared_names(checkpoint.tensors, shared_names(fresh)), expected
    )
    check_fit(tensors, expected, where)
    notes = (*checkpoint.notes, *([renamed] if renamed else []))
    return Weights(tensors, spec), tuple(f"{where}: {note}" for note in notes)


def check_fit(tensors: Mapping[str, Any], expected: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse tensors that are not those of the network.

    Raises:
        ModelError: The message has how many tensors fit, and the first that does not.
    """
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    reshaped = []
    for name, tensor in expected.items():
        if name in tensors and tuple(tensors[name].shape) != tuple(tensor.shape):
            reshaped.append(name)
    if not (missing or unknown or reshaped):
        return
    fitting = len(expected) - len(missing) - len(reshaped)
    parts = [f"{fitting} of the network's {len(expected)} tensors fit"]
    if missing:
        parts.append(f"{len(missing)} are missing, such as {missing[0]!r}")
    if unknown:
        parts.append(f"{len(unknown)} are not the network's, such as {unknown[0]!r}")
    if reshaped:
        name = reshaped[0]
        shapes = f"{tuple(expected[name].shape)}, got {tuple(tensors[name].shape)}"
        parts.append(f"tensor {name!r} must have shape {shapes}")
    raise ModelError(
        f"{where}: weights of another network: {'; '.join(parts)}. Give the model section the network "
        "and the options that the weights were trained with"
    )


def _loaded(path: Path, where: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"{where}: {path}: holds Python objects besides tensors, which would run code when they "
            "are read, so it is not read; where it was made, save the tensors alone: "
            "torch.save(network.state_dict(), path)"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = f": {error}" if isinstance(error, RuntimeError) else ""
        raise ModelError(f"{where}: {path}: not a file of torch.save, or damaged{reason}") from None


def _state_dict(
    loaded: Any, path: Path, where: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Return the tensors, and a note if they are nested."""
    # Checkpoints hold the weights under a usual key, at times nested.
    keys: list[str] = []
    passed: list[str] = []
    for _ in range(DEEPEST):
        if not isinstance(loaded, Mapping):
            break
        candidates = [key for key in NESTED if isinstance(loaded.get(key), Mapping)]
        if not candidates:
            break
        nested, *further = candidates
        passed += further
        keys.append(nested)
        loaded = loaded[nested]
    # Entries that are no tensors, such as counters, are left out.
    tensors: dict[str, torch.Tensor] = {}
    if isinstance(loaded, Mapping):
        for name, value in loaded.items():
            if isinstance(value, torch.Tensor):
                tensors[str(name)] = value
    # Without tensors: name the keys that are there, and one that holds tensors.
    if not tensors:
        is_mapping = isinstance(loaded, Mapping)
        content = ", ".join(map(str, loaded)) if is_mapping else type(loaded).__name__
        holders = (
            [key for key, value in loaded.items() if _holds_tensors(value)] if is_mapping else []
        )
        hint = (
            f"; save the weights alone: torch.save(torch.load({path.name!r})[{holders[0]!r}], 'weights.pt')"
            if holders
            else ""
        )
        raise ModelError(
            f"{where}: {path}: no state dict; looked under {', '.join(NESTED)}, and the file holds "
            f"{content}{hint}"
        )
    # A nested state dict is stated, with the keys next to it that were not read.
    if not keys:
        return tensors, ()
    unread = f"; {', '.join(map(repr, passed))} not read" if passed else ""
    return tensors, (f"the state dict is read from {'.'.join(keys)!r}{unread}",)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(item, torch.Tensor) for item in value.values()
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
