"""Batch-norm statistics that fit the quantized weights.

Quantized weights shift what batch normalisation is given. With the mean m and the variance v of its input
over the calibration images, its running mean M and variance V become

    absolute    M = m_q                  V = v_q
    relative    M = M + (m_q - m)        V = V v_q / v

where the index q stands for the quantized network. `absolute` is what the published OBC does (Frantar and
Alistarh 2022, arXiv 2208.11580, section 6). It also replaces what the network has learnt from its training
images by what the calibration images are like, and if those were augmented and these are not, that alone can
cost several points of accuracy at full precision. `relative` takes over the change that quantization makes
and nothing else: without quantization it changes nothing. (A channel that is constant at full precision,
v = 0, gets V = V + v_q.)

One batch norm is set after the other in the order of execution: each one sees activations that passed those
before it, as the deployed network will. Means are exact over all images and positions, variances are the
unbiased ones that PyTorch keeps. No module is ever in training mode; weight, bias and momentum stay as they are.

Deviation: the published OBC takes running averages over batches in training mode, on members and non-members;
here the calibration images alone count, and batches do not matter.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitleak.quant.capture import execution_order
from bitleak.quant.scheme import check_finite
from bitleak.quant.walk import walk

CONSTANT = 1e-10  # of the squared mean: a variance below is that of float32 rounding

Statistics = Literal["relative", "absolute", "none"]
"""How batch norm is re-estimated behind quantized weights."""


def reestimate(
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    *,
    reference: nn.Module | None = None,
    memory: int | None = None,
) -> list[str]:
    """Set the running statistics of every batch norm of a network, in place.

    Args:
        network: In evaluation mode; its buffers are changed.
        calibration: Normalised images.
        reference: The full-precision network, for `relative` statistics; None for `absolute` ones.
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

    networks = [network] if reference is None else [reference, network]
    walk(networks, calibration, order, visit, memory=memory)
    return order


def batch_norms(network: nn.Module) -> list[str]:
    """The batch norms that keep running statistics, in the order of definition."""
    modules = network.named_modules()
    return [name for name, module in modules if isinstance(module, _BatchNorm) and module.running_mean is not None]


def set_statistics(name: str, module: nn.Module, inputs: Iterable[tuple[Tensor, ...]]) -> None:
    """Take over the statistics of the inputs; of pairs (full precision, quantized), what has changed between them.

    Raises:
        QuantizationError: An input is not finite.
    """
    assert isinstance(module, _BatchNorm)
    assert module.running_mean is not None
    assert module.running_var is not None
    count, mean, squares = 0, torch.zeros(1), torch.zeros(1)
    for tensors in inputs:
        parts = [_moments(tensor) for tensor in tensors]
        here, spread = (torch.stack(some) for some in zip(*parts, strict=True))  # (networks, channels)
        added = tensors[0].numel() // tensors[0].shape[1]
        step = here - mean.to(spread)
        squares = squares.to(spread) + spread + step.square() * (count * added / (count + added))
        mean = mean.to(spread) + step * (added / (count + added))
        count += added
    check_finite(name, squares, "calibration input")
    variance = squares / max(1, count - 1)
    if len(mean) == 1:
        module.running_mean.copy_(mean[0])
        module.running_var.copy_(variance[0])
        return
    before = module.running_var.double()
    module.running_mean.copy_(module.running_mean.double() + mean[1] - mean[0])
    varied = variance[0] > CONSTANT * (mean[0].square() + variance[1])
    module.running_var.copy_(torch.where(varied, before * variance[1] / variance[0], before + variance[1]))


def _moments(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each channel."""
    axes = [axis for axis in range(tensor.ndim) if axis != 1]
    mean = tensor.mean(axes, keepdim=True)
    return mean.flatten().double(), (tensor - mean).square_().sum(axes).double()
