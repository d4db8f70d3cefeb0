"""Kinds of networks: two networks of a kind differ in the values of their tensors alone.

A network's kind has two parts. Both are compared as a whole, and neither holds a tensor's values:

    structure  modules by name with their class and attributes; parameters and buffers by name with
               shape, strides, type and shared memory. Tensors that are plain attributes are constants:
               they enter with their values.
    operators  operators that a pass over an example runs, in order, with all arguments. A parameter
               or buffer stands there by its name, a result by its place, any other tensor by its
               values. So a number that a forward pass computes from its weights, and a branch that it
               chooses by them, makes another kind.

Attributes of types that cannot be compared, such as objects of outside classes and hooks, leave a
network without a kind. Not seen: state outside of the network that a forward pass uses for Python
numbers only while it is exported.

Cost: one pass over the example, and a copy of the network, which may change itself in the pass.
"""

import copy
import hashlib
import types
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bitleak.models.global_state import seeded_draws

_SCALARS = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(None))
_PARTS = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that hold its tensors and submodules."""


class _NotComparableError(Exception):
    """A value of which nothing can be said but its identity."""


def network_kind(network: nn.Module, example: Tensor) -> Hashable | None:
    """Return a network's kind, equal for networks that compute the same function of their tensors.

    Args:
        network: On the CPU, in evaluation mode; not changed.
        example: Images of which one pass is run, in a copy of the network.

    Returns:
        A value to compare; None if the network cannot be compared with others.

    Example:
        >>> def kind(outputs):
        ...     return network_kind(nn.Linear(2, outputs), torch.zeros(1, 2))
        >>> kind(3) == kind(3), kind(3) == kind(4)
        (True, False)
    """
    try:
        structure = tuple(_structure(network))
        return structure, _operators(network, example)
    except Exception:  # a forward pass or a copy of outside code may raise anything
        return None


def network_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name; one that has two names is there twice."""
    return {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }


def _structure(network: nn.Module) -> Iterator[Hashable]:
    """Return the modules, and the tensors without their values.

    Raises:
        _NotComparableError: An attribute or a tensor is of another type.
    """
    for name, module in network.named_modules(remove_duplicate=False):
        attributes = {key: value for key, value in vars(module).items() if key not in _PARTS}
        yield name, type(module), _comparable(attributes)
    memory: dict[int, str] = {}
    for name, tensor in network_tensors(network).items():
        if type(tensor) not in (Tensor, nn.Parameter):
            raise _NotComparableError(name)
        start = memory.setdefault(tensor.untyped_storage().data_ptr(), name)
        yield name, type(tensor), _layout(tensor), start, tensor.storage_offset()


def _comparable(value: Any) -> Hashable:
    """Return a value that is equal to another one if the two are the same to a program."""
    kind = type(value)
    if kind in _SCALARS:
        # With its type, since 1, 1.0 and True are equal; as text, since NaN is not equal to itself.
        return kind, repr(value)
    if kind in (dict, OrderedDict):
        return kind, tuple((_comparable(key), _comparable(item)) for key, item in value.items())
    if kind in (tuple, list, torch.Size):
        return kind, tuple(map(_comparable, value))
    if kind in (set, frozenset):
        return kind, tuple(sorted(map(repr, map(_comparable, value))))
    if kind is Tensor:
        return kind, _layout(value), _digest(value)
    if kind in (type, types.BuiltinFunctionType):
        return value
    if kind is types.FunctionType and value.__closure__ is None:
        return value
    raise _NotComparableError(kind.__name__)


def _layout(tensor: Tensor) -> Hashable:
    return str(tensor.dtype), str(tensor.device), tuple(tensor.shape), tensor.stride()


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def _operators(network: nn.Module, example: Tensor) -> str:
    """Return a digest of the operators that one pass runs, with their arguments."""
    copied = copy.deepcopy(network)
    names = {id(tensor): name for name, tensor in network_tensors(copied).items()}
    images = example.clone()
    record = _Record({**names, id(images): "images"})
    with seeded_draws(0), torch.no_grad(), record:
        result = copied(images)
    record.add("result", result)
    return record.digest.hexdigest()


class _Record(TorchDispatchMode):
    """A digest of the operators that run.

    Args:
        names: Names of tensors by their `id`.
    """

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self._names = names
        self._results: list[Any] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator."""
        self.add(str(func), args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        # Results are kept, so that no later tensor gets the identity of one that is gone.
        self._results.append(result)
        for place, tensor in enumerate(result if isinstance(result, list | tuple) else (result,)):
            if isinstance(tensor, Tensor):
                self._names[id(tensor)] = f"{len(self._results)}.{place} {_layout(tensor)}"
        self.add("gives", result)
        return result

    def add(self, *values: Any) -> None:
        """Add values to the digest."""
        self.digest.update(repr([self._text(value) for value in values]).encode())

    def _text(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._names.get(id(value)) or f"{_layout(value)} {_digest(value)}"
        if isinstance(value, list | tuple):
            return [self._text(part) for part in value]
        if isinstance(value, dict):
            return [(key, self._text(part)) for key, part in value.items()]
        return f"{type(value).__name__} {value!r}"
