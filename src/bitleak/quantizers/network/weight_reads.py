"""Weights that a forward pass reads outside of their layers' calls.

Such a weight multiplies inputs that no hook on its layer sees. Looking at a tensor's shape, type or
device is not a read, nor is converting another tensor to its type.

Cost: a look at every argument of every function of tensors, for one forward pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_READING = {"T", "mT", "H", "mH", "data"}
"""Attributes of a tensor that give its values; the others give its shape, type and the like."""
_DESCRIBING = {
    "size",
    "dim",
    "ndimension",
    "numel",
    "stride",
    "is_contiguous",
    "element_size",
    "data_ptr",
    "__len__",
}
_DESCRIBING |= {
    "is_floating_point",
    "is_complex",
    "type",
    "get_device",
    "__hash__",
    "requires_grad_",
}


class WeightReads(TorchFunctionMode):
    """Record of weights that are read outside of their layer's call, and of output types."""

    def __init__(self, weights: Mapping[int, str]) -> None:
        super().__init__()
        self.weights = weights
        self.outside: set[str] = set()
        self.kinds: dict[str, torch.dtype] = {}
        self._inside: list[str] = []

    def enters(self, name: str) -> Callable[..., None]:
        """Return the forward pre-hook of a layer."""
        return lambda *_: self._inside.append(name)

    def leaves(self, name: str) -> Callable[..., None]:
        """Return the forward hook of a layer."""

        def leave(layer: nn.Module, inputs: Any, output: Any) -> None:
            self._inside.remove(name)
            if isinstance(output, Tensor):
                self.kinds[name] = output.dtype

        return leave

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if not _describes(func):
            read = args[:1] if getattr(func, "__name__", "") in ("to", "type_as") else args
            for value in tree_leaves((read, dict(kwargs or {}))):
                name = self.weights.get(id(value))
                if name is not None and name not in self._inside:
                    self.outside.add(name)
        return func(*args, **(kwargs or {}))


def _describes(func: Any) -> bool:
    """Return whether a function of a tensor looks at its shape, type and the like only."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "") not in _READING
    return name in _DESCRIBING or name.startswith("new_") or name.endswith("_like")
