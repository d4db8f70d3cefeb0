"""Batch-norm statistics that fit the quantized weights.

Quantized weights shift what batch normalisation is given. Its running mean and variance are replaced
by those of the calibration images, one batch norm after the other in the order of execution: each one
sees activations that passed the re-estimated ones before it, as the deployed network will. The mean is
exact over all images and positions, the variance the unbiased one that PyTorch keeps. No module is ever
in training mode, and weight, bias and momentum stay as they are.

The published OBC tunes them by running averages over batches in training mode (Frantar and Alistarh
2022, arXiv 2208.11580, section 6), on members and non-members; here they come from the calibration
images only, and do not depend on batches.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitleak.quant.capture import execution_order
from bitleak.quant.scheme import check_finite
from bitleak.quant.walk import walk


def reestimate(
    network: nn.Module, calibration: Float[Tensor, "records *sample"], *, memory: int | None = None
) -> list[str]:
    """Set the running statistics of every batch norm of a network, in place.

    Args:
        network: In evaluation mode; its buffers are changed.
        calibration: Normalised images.
        memory: Bytes that activations may take, see `walk.granted`; it changes the time only.

    Returns:
        The names of the batch norms, in the order of execution.

    Raises:
        QuantizationError: A batch norm is called twice or never.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> reestimate(network, torch.tensor([[1.0], [3.0]]))
        ['0']
        >>> network[0].running_mean.item(), network[0].running_var.item()
        (2.0, 2.0)
    """
    names = batch_norms(network)
    if not names:
        return []
    order = execution_order(network, names, calibration)

    def visit(name: str, inputs: Iterable[tuple[Tensor, ...]]) -> None:
        set_statistics(name, network.get_submodule(name), inputs)

    walk([network], calibration, order, visit, memory=memory)
    return order


def batch_norms(network: nn.Module) -> list[str]:
    """The batch norms that keep running statistics, in the order of definition."""
    modules = network.named_modules()
    return [name for name, module in modules if isinstance(module, _BatchNorm) and module.running_mean is not None]


def set_statistics(name: str, module: nn.Module, inputs: Iterable[tuple[Tensor, ...]]) -> None:
    """Mean and unbiased variance of all chunks, merged as in Chan, Golub and LeVeque 1979.

    Raises:
        QuantizationError: An input is not finite.
    """
    assert isinstance(module, _BatchNorm)
    assert module.running_mean is not None
    assert module.running_var is not None
    count, mean, squares = 0, torch.zeros(1), torch.zeros(1)
    for (tensor,) in inputs:
        axes = [axis for axis in range(tensor.ndim) if axis != 1]
        here = tensor.mean(axes, keepdim=True)
        spread = (tensor - here).square_().sum(axes).double()
        added = tensor.numel() // tensor.shape[1]
        step = here.flatten().double() - mean.to(spread)
        squares = squares.to(spread) + spread + step.square() * (count * added / (count + added))
        mean = mean.to(spread) + step * (added / (count + added))
        count += added
    check_finite(name, squares, "calibration input")
    module.running_mean.copy_(mean)
    module.running_var.copy_(squares / max(1, count - 1))
