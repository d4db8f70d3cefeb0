"""Batch-norm statistics that fit the quantized weights.

Quantized weights shift the inputs of batch normalisation. With the mean m and the variance v of its
input over the calibration images, its running mean M and variance V become

    absolute    M = m_q                  V = v_q
    relative    M = M + (m_q - m)        V = V v_q / v

where the index q stands for the quantized network. `absolute` is the method of the published OBC
(Frantar and Alistarh 2022, arXiv 2208.11580, section 6). It also replaces the statistics of the
training images by those of the calibration images, and if only the former were augmented, that
alone can cost several points of accuracy at full precision. `relative` takes over the change that
quantization makes and nothing else: without quantization it changes nothing. (A channel that is
constant at full precision, v = 0, gets V = V + v_q.)

One batch norm is set after the other in the order of execution: each one sees activations that
passed those before it, as the deployed network will. Means are exact over all images and positions,
variances are the unbiased ones that PyTorch keeps. No module is ever in training mode; weight, bias
and momentum stay as they are.

The moments of the full-precision network do not depend on any code: an earlier pass over its images
takes them along the way (`moment_watchers`), so that a re-estimation runs the quantized network
alone.

The statistics of some images are enough: on `cnn` of width 32, those of 1,024 CIFAR-10 images leave
the accuracy that those of 20,480 leave (within 0.1 points, either way), in about a sixtieth of the
time.

Deviation: the published OBC takes running averages over batches in training mode, on members and
non-members; here the calibration images alone count, and batches do not matter.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitleak.core.checks import integer_in, one_of
from bitleak.core.errors import QuantizationError
from bitleak.models.layer_kinds import deviation
from bitleak.quantizers.network.layer_inputs import chunks, leading_images, stream
from bitleak.quantizers.network.layer_pass import activation_budget, visit_in_order
from bitleak.quantizers.scheme import Scheme, check_finite, left_out, norms_left, spelling

CONSTANT = 1e-10  # of the squared mean: a variance below is that of float32 rounding


def check_statistics(statistics: object, images: object) -> None:
    """Check the fields of a quantizer that set how batch norm is re-estimated.

    Raises:
        ValueError: A field is out of range.
    """
    one_of("reestimate", statistics, ("relative", "absolute", "none"))
    if images is not None:
        integer_in("reestimate_images", images, 1)


class Moments(NamedTuple):
    """Number, mean and squared deviations of the values per channel of a batch norm's inputs."""

    values: int
    mean: Float64[Tensor, "channels"]
    squares: Float64[Tensor, "channels"]


def reestimate(
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    *,
    norms: Sequence[str] | None = None,
    reference: Mapping[str, Moments] | None = None,
    records: int | None = None,
    memory: int | None = None,
) -> list[str]:
    """Set the running statistics of batch norms of a network, in place.

    Args:
        network: In evaluation mode; its buffers are changed.
        calibration: Normalised images.
        norms: Names of the batch norms; None = all.
        reference: Moments of the batch norms of the full-precision network, on the same images, for
            `relative` statistics; None for `absolute` ones.
        records: Number of images to use, see `layer_inputs.leading_images`.
        memory: Bytes that activations may take, see `layer_pass.activation_budget`; it changes the
            time only.

    Returns:
        The names of the batch norms, in the order of execution.

    Raises:
        QuantizationError: A batch norm is called more than once.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> reestimate(network, torch.tensor([[1.0], [3.0]]))
        ['0']
        >>> network[0].running_mean.item(), network[0].running_var.item()
        (2.0, 2.0)
    """
    names = batch_norms(network) if norms is None else list(norms)
    images = leading_images(calibration, records)
    order = execution_order_of_norms(network, names, images)
    if not order:
        return []

    def visit(name: str, inputs: Iterable[tuple[Tensor, ...]]) -> None:
        set_statistics(
            name,
            network.get_submodule(name),
            inputs,
            None if reference is None else reference[name],
        )

    visit_in_order([network], images, order, visit, memory=activation_budget(calibration, memory))
    return order


def moment_watchers(
    network: nn.Module,
    calibration: Float[Tensor, "records *sample"],
    totals: Mapping[int | None, dict[str, Moments]],
) -> dict[str, Callable[[str, Tensor], None]]:
    """Return callbacks for `layer_inputs.stream` that add the batch norms' inputs to their moments.

    Args:
        network: The network that has the batch norms.
        calibration: The images that it will be run over.
        totals: Moments by the number of images that count (see `layer_inputs.leading_images`), then
            by the name of the batch norm; changed by the callbacks.

    Example:
        >>> totals: dict[int | None, dict[str, Moments]] = {None: {}}
        >>> network = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> images = torch.tensor([[1.0], [3.0], [5.0]])
        >>> stream(network, images, moment_watchers(network, images, totals))
        >>> totals[None]["0"].values, totals[None]["0"].mean.item(), totals[None]["0"].squares.item()
        (3, 3.0, 8.0)
    """
    # Chunks are not split: the sums over the first ones are those of a pass over these alone.
    counted = {records: len(chunks(leading_images(calibration, records))) for records in totals}
    seen: Counter[str] = Counter()

    def add(name: str, inputs: Tensor) -> None:
        seen[name] += 1
        for records, moments in totals.items():
            if seen[name] <= counted[records]:
                moments[name] = _added(moments.get(name), inputs)

    return dict.fromkeys(_norms(network) if totals else [], add)


def moments_of(
    network: nn.Module, calibration: Float[Tensor, "records *sample"], records: int | None = None
) -> dict[str, Moments]:
    """Return the moments of every batch norm's inputs, in one pass over the first `records` images.

    The number is rounded up to whole chunks, see `layer_inputs.leading_images`.
    """
    moments: dict[str, Moments] = {}
    images = leading_images(calibration, records)
    stream(network, images, moment_watchers(network, images, {None: moments}))
    return moments


def batch_norms(network: nn.Module, scheme: Scheme | None = None) -> list[str]:
    """Return the batch norms whose running statistics are to be set, in the order of definition.

    Args:
        network: The network that has the batch norms.
        scheme: Its `layers` may leave some as they are; None leaves none.

    Raises:
        QuantizationError: A batch norm has a forward pass of its own or hooks, so that its
            statistics may mean anything.
    """
    names = [name for name in _norms(network) if scheme is None or not left_out(scheme, name)]
    reasons: dict[str, str] = {}
    for name in names:
        reason = deviation(network.get_submodule(name))
        if reason is not None:
            reasons[name] = reason
    if reasons:
        name, reason = next(iter(reasons.items()))
        raise QuantizationError(
            f"batch norm {name!r} cannot be re-estimated: {reason}. Set reestimate to none, or leave it as it is by "
            f"the quantizer's option {norms_left(network, reasons)}"
        )
    return names


def _norms(network: nn.Module) -> list[str]:
    """Return the batch norms that keep running statistics."""
    modules = network.named_modules()
    return [
        name
        for name, module in modules
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


def execution_order_of_norms(
    network: nn.Module, names: Sequence[str], calibration: Float[Tensor, "records *sample"]
) -> list[str]:
    """Return the batch norms of these names that are used, in the order in which they are called.

    Args:
        network: In evaluation mode.
        names: Qualified names of batch norms.
        calibration: At least one image; the first one is used.

    Raises:
        QuantizationError: A batch norm is called more than once: it has one pair of statistics for
            inputs that quantization changes differently.

    Example:
        >>> execution_order_of_norms(nn.Sequential(nn.BatchNorm1d(1)).eval(), ["0"], torch.zeros(1, 1))
        ['0']
    """
    called: list[str] = []
    if names:
        stream(
            network, calibration[:1], dict.fromkeys(names, lambda name, inputs: called.append(name))
        )
    for name, calls in Counter(called).items():
        if calls > 1:
            raise QuantizationError(
                f"batch norm {name!r} is used {calls} times in one run, so its statistics cannot be re-estimated; set "
                f"`reestimate: none`, or leave it as it is by the quantizer's option {spelling(name)}, or give each "
                "use a batch norm of its own"
            )
    return called


def set_statistics(
    name: str,
    module: nn.Module,
    inputs: Iterable[tuple[Tensor, ...]],
    reference: Moments | None = None,
) -> None:
    """Set a batch norm to its inputs' statistics, or change it by their change from a reference.

    Args:
        name: The batch norm's name, for messages.
        module: The batch norm.
        inputs: Chunk by chunk, one tensor each.
        reference: The moments at full precision, for `relative` statistics.

    Raises:
        QuantizationError: An input is not finite.
    """
    assert isinstance(module, _BatchNorm)
    assert module.running_mean is not None
    assert module.running_var is not None
    measured: Moments | None = None
    for (tensor,) in inputs:
        measured = _added(measured, tensor)
    assert measured is not None
    for moments in (measured, reference):
        if moments is not None:
            check_finite(name, moments.squares, "calibration input")

    variance = _variance(measured)
    if reference is None:
        module.running_mean.copy_(measured.mean)
        module.running_var.copy_(variance)
        return

    # M + (m_q - m), and V v_q / v; V + v_q if v is that of rounding, by which nothing is divided
    full, before = _variance(reference), module.running_var.double()
    module.running_mean.copy_(module.running_mean.double() + measured.mean - reference.mean)
    varied = full > CONSTANT * (reference.mean.square() + variance)
    module.running_var.copy_(torch.where(varied, before * variance / full, before + variance))


def _added(before: Moments | None, inputs: Tensor) -> Moments:
    """Return the moments with those of some more inputs added."""
    # Means and deviations by chunk, then merged: sums of squares would cancel at large means.
    axes = [axis for axis in range(inputs.ndim) if axis != 1]
    mean = inputs.mean(axes, keepdim=True)
    measured, spread = mean.flatten().double(), (inputs - mean).square_().sum(axes).double()
    added = inputs.numel() // inputs.shape[1]
    if before is None:
        return Moments(added, measured, spread)
    count = before.values + added
    step = measured - before.mean
    squares = before.squares + spread + step.square() * (before.values * added / count)
    return Moments(count, before.mean + step * (added / count), squares)


def _variance(moments: Moments) -> Float64[Tensor, "channels"]:
    return moments.squares / max(1, moments.values - 1)
