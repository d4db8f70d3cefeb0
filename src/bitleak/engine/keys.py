"""Canonical JSON, and tasks that are named by a hash of everything that can change their result.

    key = sha256(canonical JSON of {inputs, params, stage, version})

where `inputs` are the keys of other tasks, so a key stands for the whole history of a result. What
cannot change a result (device, number of workers, paths, labels) is not part of it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Inputs = Mapping[str, str | tuple[str, ...]]
"""Names of a stage's inputs -> the key of the task that makes it, or several keys in order."""


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: object) -> bytes:
    """Write a JSON value in the one canonical way: sorted keys, no whitespace, ASCII, floats by
    `repr`.

    Args:
        value: None, bool, int, float, str, or lists, tuples and mappings of those. 1 and 1.0 are
            different values; a tuple is written as a list.

    Raises:
        TypeError: Something in it is of another type (NumPy's numbers too) or a key is not a
            string.
        ValueError: A number in it is NaN or infinite. Both messages say where.

    Example:
        >>> canonical_json({"levels": (4, 2), "grid": {"norm": 2.4}})
        b'{"grid":{"norm":2.4},"levels":[4,2]}'
        >>> canonical_json({"grid": [1.0, float("nan")]})
        Traceback (most recent call last):
        ...
        ValueError: value.grid[1] must be a finite number, got nan
    """
    return _ENCODER.encode(plain(value)).encode("ascii")


def identity_key(identity: Mapping[str, Any]) -> str:
    """Return the key of a task whose identity was read from JSON, where numbers are finite and all
    types plain.
    """
    return hashlib.sha256(_ENCODER.encode(identity).encode("ascii")).hexdigest()


def plain(value: object, path: str = "value") -> Any:
    """Return a copy of plain types: dict, list, str, int, float, bool, None.

    Errors as in `canonical_json`.
    """
    kind = type(
        value
    )  # exactly: numpy.float64 is a float by inheritance, and is refused all the same
    if value is None or kind in (bool, int, str):
        return value
    if isinstance(value, float) and kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{path} must be a finite number, got {value!r}")
        return value
    if isinstance(value, Mapping):
        return {_name(key, path): plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise TypeError(
        f"{path} must be a JSON value (None, bool, int, float, str, list, mapping), "
        f"got {kind.__module__}.{kind.__qualname__}: convert it first"
    )


def _name(key: object, path: str) -> str:
    if type(key) is not str:
        raise TypeError(f"the keys of {path} must be strings, got {key!r}")
    return key


@dataclass(frozen=True)
class Task:
    """One call of a stage: what to compute, from what.

    Two tasks are equal if everything that can change their result is equal; label, cost, memory,
    bytes and group are not part of that, nor of the key.

    Attributes:
        stage: Name of the stage function; also the folder in the store.
        version: Version of the stage, raised when the meaning of its results changes.
        params: JSON values; tuples become lists, so that a stage gets the values of the manifest.
        inputs: Name -> key of the task that makes it, or a tuple of keys in order.
        label: For people, e.g. `train model 3`.
        cost: Expected seconds on one worker; 0 where it is not known.
        memory: Expected peak in bytes; 0 if it is not known.
        bytes: Expected size of the result; 0 if it is not known.
        group: Tasks of one stage with the same inputs and the same group are handed to the stage
            together, since they can share work; None = alone.
    """

    stage: str
    version: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Inputs = field(default_factory=dict)
    label: str = field(default="", compare=False)
    cost: float = field(default=0.0, compare=False)
    memory: int = field(default=0, compare=False)
    bytes: int = field(default=0, compare=False)
    group: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.stage.isidentifier() or self.stage == "logs":
            raise ValueError(f"stage must be a Python name other than 'logs', got {self.stage!r}")
        inputs = {
            name: keys if isinstance(keys, str) else tuple(keys)
            for name, keys in self.inputs.items()
        }
        object.__setattr__(self, "params", plain(self.params, "params"))
        object.__setattr__(self, "inputs", inputs)

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The content that the key is a hash of, and that the manifest records."""
        inputs = plain(self.inputs, "inputs")
        return {
            "stage": self.stage,
            "version": self.version,
            "params": self.params,
            "inputs": inputs,
        }

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.identity)).hexdigest()

    @property
    def name(self) -> str:
        """The name for messages: the label, or stage and first digits of the key."""
        return self.label or f"{self.stage} {self.key[:8]}"

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Keys of all inputs, in order, each once."""
        ordered: dict[str, None] = {}
        for keys in self.inputs.values():
            ordered |= dict.fromkeys((keys,) if isinstance(keys, str) else keys)
        return tuple(ordered)
