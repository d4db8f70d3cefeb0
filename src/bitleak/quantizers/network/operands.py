"""The weights that reach the products of a quantized network, compared with its codes.

"3 levels" in a table is right only if the convolution or the matrix product of a layer is given a
weight with at most 3 different values per grid, and not merely if the file holds such codes:
another name of the same tensor may have been loaded over them, or the network may set, scale
or mask its weights while it runs. So the network with the dequantized weights is run on one batch,
below all of its Python code, at PyTorch's dispatcher: while a layer is called, the operand of each
product is taken and compared with the dequantized weight, bit for bit. Codes below `levels` then
bound the number of values.

Cost: one forward pass of `CHECKED_RECORDS` images, and one comparison per weight.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedLayer, QuantizedWeights
from bitleak.quantizers.scheme import leave_out

CHECKED_RECORDS = 2
_CONVOLUTIONS = dict.fromkeys(("convolution", "_convolution", "conv1d", "conv2d", "conv3d"), 1)
# `linear` and `conv2d` are seen in inference mode.
_AS_STORED = {**_CONVOLUTIONS, "linear": 1, "mv": 0, "addmv": 1}
_TRANSPOSED = {"mm": 1, "addmm": 2, "bmm": 1, "baddbmm": 2}
"""Products by the position of the weight among their arguments."""


@torch.no_grad()
def check_operands(
    network: nn.Module,
    quantized: QuantizedWeights,
    images: Float[Tensor, "records *sample"],
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> QuantizedWeights:
    """Run a quantized network on one batch; compare the weights that it multiplies with the codes'.

    Args:
        network: In evaluation mode.
        quantized: Codes and grids.
        images: Normalised, on the network's device; the first `CHECKED_RECORDS` are run.
        weights: Dequantized weights that take the place of the network's for this run, by the
            tensors' names; None if the network has them.

    Returns:
        `quantized`.

    Raises:
        QuantizationError: A layer multiplies other weights than those of its codes, or no product
            of it was seen.

    Example:
        >>> from bitleak.quantizers.rtn import RoundToNearest
        >>> network, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), torch.zeros(1, 1, 2, 2)
        >>> quantized = RoundToNearest(levels=3)(network, images, torch.Generator())
        >>> check_operands(network, quantized, images)
        Traceback (most recent call last):
        ...
        bitleak.core.errors.QuantizationError: layer '1': 4 different weights reach ...
    """
    seen: dict[str, list[str | None]] = {name: [] for name in quantized.layers}

    def look(name: str, operand: Tensor) -> None:
        seen[name].append(_difference(quantized.layers[name], operand))

    with (
        replaced_weights(network, weights or {}),
        _calls(network, list(seen)) as called,
        _Products(called, look),
    ):
        network(images[:CHECKED_RECORDS].clone())
    for name, differences in seen.items():
        # A layer that is called several times is wrong if one of its products is.
        wrong = None if differences else "no product of it is run"
        for difference in differences:
            wrong = wrong or difference
        if wrong:
            raise QuantizationError(
                f"layer {name!r}: {wrong}. Something replaces or changes its weight once it is loaded or when the "
                f"network runs; take that out, or {leave_out(name)}"
            )
    return quantized


def _difference(layer: QuantizedLayer, operand: Tensor) -> str | None:
    """Return how a product's operand differs from the weight of the codes; None if it does not."""
    expected = torch.from_numpy(layer.dequantize()).to(operand)
    fits = operand.shape == expected.shape
    if fits and torch.equal(operand, expected) and int(layer.codes.max()) < layer.levels:
        return None
    if operand.numel() != expected.numel():
        return f"its product is given a tensor of shape {tuple(operand.shape)}, its weight has {tuple(expected.shape)}"
    # Too many values, not just other ones, mean that no quantization reaches the product.
    rows = operand.reshape(len(layer.scale), -1).sort(dim=1).values
    count = 1 + int((rows.diff(dim=1) != 0).sum(dim=1).max())
    if count > layer.levels:
        return f"{count} different weights reach one of its grids' products, at most {layer.levels} were expected"
    return "other weights than those of its codes reach its product"


@contextmanager
def replaced_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the network other weights for a while; modules that share a parameter see them too."""
    before = {name: network.get_parameter(name).data for name in weights}
    try:
        for name, weight in weights.items():
            network.get_parameter(name).data = weight
        yield
    finally:
        for name, weight in before.items():
            network.get_parameter(name).data = weight


@contextmanager
def _calls(network: nn.Module, names: list[str]) -> Iterator[list[str]]:
    """Keep the names of the layers that are being called, innermost last."""
    called: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: called.append(name)

    handles = []
    for name in names:
        layer = network.get_submodule(name)
        handles.append(layer.register_forward_pre_hook(enter(name)))
        handles.append(
            layer.register_forward_hook(lambda *_: called.pop() and None, always_call=True)
        )
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


class _Products(TorchDispatchMode):
    """Shows the weight of each product that is run while a layer is called."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: else PyTorch loads its compiler at the first product, which takes seconds."""
        return False

    def __init__(self, called: list[str], look: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self.called, self.look = called, look

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if self.called and name in _AS_STORED:
            self.look(self.called[-1], args[_AS_STORED[name]])
        elif self.called and name in _TRANSPOSED:
            operand = args[_TRANSPOSED[name]]
            self.look(self.called[-1], (operand[0] if operand.ndim == 3 else operand).T)
        return func(*args, **(kwargs or {}))
