"""Second moments of a layer's inputs: sum of x x^T over records and positions, without im2col.

A layer computes W x for its inputs x (for a convolution, one patch of the image per position); W
has the shape (out, columns). The Gram matrix is A = sum x x^T, one per group. For a convolution of
stride 1 it is nearly a table of shifts: let i and j be two taps of the kernel and R(s) = sum_u x(u)
x(u + s)^T the correlation of the image's channels at shift s. Summed over *all* positions at which
the kernel touches the image, A[i, j] = R(j - i), so that 13 products of channels x channels serve a
3 x 3 kernel instead of 81. Then the positions that the layer does not visit are taken away again;
they lie around the border, and most of the taps in their patches are outside of the image. This is
exact: nothing is approximated, and no position is left out. Strided, grouped and 3-d convolutions
unfold their patches.

Products run in float32 over a chunk of images and are added up in float64: rounding stays near 1e-7
of the diagonal.

Cost for a k x k kernel, c channels and p positions: 4 k^2 c^2 p operations instead of 2 k^4 c^2 p.
"""

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from bitleak.quantizers.scheme import Layer

PATCH_CHUNK = 1 << 21  # elements of unfolded patches, or of images where nothing is unfolded


def gram(
    layer: Layer, inputs: Float[Tensor, "records *sample"]
) -> Float64[Tensor, "groups columns columns"]:
    """Return the sum of x x^T over the positions of all records; `layer(inputs)` is W x at each.

    Args:
        layer: A convolution or linear layer.
        inputs: Inputs of the layer.

    Returns:
        One symmetric matrix per group; rows and columns as in `layer.weight.flatten(1)`.

    Example:
        >>> gram(nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [3.0, 0.0]])).tolist()
        [[[10.0, 2.0], [2.0, 4.0]]]
    """
    if isinstance(layer, nn.Linear):
        rows = inputs.reshape(-1, inputs.shape[-1])
        return (rows.T @ rows).double()[None]
    inputs, padding = _padded(layer, inputs)
    by_shifts = layer.groups == 1 and set(layer.stride) == {1} and len(layer.kernel_size) <= 2
    size = inputs[0].numel() * (1 if by_shifts else layer.weight[0, 0].numel())
    moments_of = _by_shifts if by_shifts else _by_patches
    parts = inputs.split(max(1, PATCH_CHUNK // size))
    total = moments_of(layer, parts[0], padding)
    for part in parts[1:]:
        total += moments_of(layer, part, padding)
    return total


def moment(
    layer: Layer,
    inputs: Float[Tensor, "records *sample"],
    outputs: Float[Tensor, "records *result"],
) -> Float64[Tensor, "out columns"]:
    """Return the sum of y x^T over the positions of all records: the gradient of <y, W x> by W.

    Args:
        layer: A convolution or linear layer.
        inputs: Inputs of the layer.
        outputs: y, in the shape of `layer(inputs)`.

    Example:
        >>> moment(nn.Linear(2, 1), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])).tolist()
        [[3.0, 6.0]]
    """
    if isinstance(layer, nn.Linear):
        return (
            outputs.reshape(-1, outputs.shape[-1]).T @ inputs.reshape(-1, inputs.shape[-1])
        ).double()
    inputs, padding = _padded(layer, inputs)
    gradient = (conv1d_weight, conv2d_weight, conv3d_weight)[len(layer.kernel_size) - 1]
    shape = layer.weight.shape
    return (
        gradient(inputs, shape, outputs, layer.stride, padding, layer.dilation, layer.groups)
        .flatten(1)
        .double()
    )


def product_with(layer: Layer, weight: Tensor, inputs: Tensor) -> Tensor:
    """Return the layer's output for another weight of the same shape, and without the bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(inputs, weight)
    return layer._conv_forward(inputs, weight, None)


def _padded(layer: Layer, inputs: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return inputs and the zeros to add at both ends of each axis; do other paddings here."""
    assert not isinstance(layer, nn.Linear)
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return inputs, tuple(layer.padding)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode), (0,) * len(
        layer.kernel_size
    )


def _by_patches(layer: Layer, inputs: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Return the Gram matrices by their definition: unfold the patches and multiply."""
    assert not isinstance(layer, nn.Linear)
    axes = len(padding)
    amounts: list[int] = []  # of the last axis first, before and after it
    for amount in reversed(padding):
        amounts += [amount, amount]
    patches = F.pad(inputs, amounts)
    for axis, (taps, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        patches = patches.unfold(2 + axis, dilation * (taps - 1) + 1, stride)[..., ::dilation]
    # From (records, groups, channels, positions..., taps...) to (groups, columns, positions)
    patches = patches.unflatten(1, (layer.groups, -1))
    order = (1, 2, *range(3 + axes, 3 + 2 * axes), 0, *range(3, 3 + axes))
    columns = patches.permute(order).flatten(2 + axes).flatten(1, 1 + axes)
    return (columns @ columns.mT).double()


def _by_shifts(layer: Layer, inputs: Tensor, padding: tuple[int, ...]) -> Tensor:
    """Return the Gram matrix for stride 1 and one group, as in the module's docstring."""
    assert not isinstance(layer, nn.Linear)
    kernel, dilation = layer.kernel_size, layer.dilation
    if len(kernel) == 1:
        inputs, kernel, dilation, padding = (
            inputs[:, :, None],
            (1, *kernel),
            (1, *dilation),
            (0, *padding),
        )
    channels, taps = inputs.shape[1], kernel[0] * kernel[1]
    total = _everywhere(inputs, kernel, dilation)  # (channels, high, wide, channels, high, wide)
    reach = [spacing * (count - 1) for spacing, count in zip(dilation, kernel, strict=True)]
    visited = [
        range(-pad, size + pad - far)
        for pad, size, far in zip(padding, inputs.shape[2:], reach, strict=True)
    ]

    # Rows of positions that are not visited: only the taps `inside` of them lie on the image.
    for first, inside in _outside(visited[0], inputs.shape[2], kernel[0], dilation[0]):
        lines = inputs[:, :, [first + dilation[0] * tap for tap in inside]]
        part = _of_lines(F.pad(lines, (reach[1], reach[1])), kernel[1], dilation[1])
        total[:, inside[0] : inside[-1] + 1, :, :, inside[0] : inside[-1] + 1] -= part

    # Columns likewise, among the visited rows, which is why the padding of the rows counts here.
    for first, inside in _outside(visited[1], inputs.shape[3], kernel[1], dilation[1]):
        lines = inputs[..., [first + dilation[1] * tap for tap in inside]].transpose(2, 3)
        part = _of_lines(F.pad(lines, (padding[0], padding[0])), kernel[0], dilation[0])
        total[:, :, inside[0] : inside[-1] + 1, :, :, inside[0] : inside[-1] + 1] -= part.permute(
            0, 2, 1, 3, 5, 4
        )
    return total.reshape(1, channels * taps, channels * taps)


def _everywhere(inputs: Tensor, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Return the Gram matrix over all positions at which the kernel touches the image."""
    (high, wide), (down, right) = kernel, dilation
    # Zeros between rows and images, so that shifts do not mix them.
    gap = (down * (high - 1), right * (wide - 1))
    lines = F.pad(inputs, (0, gap[1], 0, gap[0])).transpose(0, 1).flatten(1)  # (channels, pixels)
    line, pixels = inputs.shape[3] + gap[1], lines.shape[1]

    # R(-s) = R(s)^T, so half of the shifts are products.
    table = inputs.new_empty(2 * high - 1, 2 * wide - 1, len(lines), len(lines))
    for row, column in product(range(high), range(1 - wide, wide)):
        shift = row * down * line + column * right
        if shift < 0:
            continue
        correlation = lines[:, : pixels - shift] @ lines[:, shift:].T
        table[high - 1 + row, wide - 1 + column] = correlation
        table[high - 1 - row, wide - 1 - column] = correlation.T

    # A[i, j] = R(j - i)
    rows, columns = torch.arange(high), torch.arange(wide)
    down_by = rows[None, :] - rows[:, None] + high - 1  # (high, high): from tap to tap
    right_by = columns[None, :] - columns[:, None] + wide - 1
    blocks = table[down_by[:, None, :, None], right_by[None, :, None, :]]
    return blocks.permute(4, 0, 1, 5, 2, 3).to(torch.float64, memory_format=torch.contiguous_format)


def _outside(visited: range, size: int, taps: int, dilation: int) -> list[tuple[int, list[int]]]:
    """Return the first tap's places that are not visited but touch the image, with the taps."""
    touching: list[tuple[int, list[int]]] = []
    for first in range(-dilation * (taps - 1), size):
        inside = [tap for tap in range(taps) if 0 <= first + dilation * tap < size]
        if inside and first not in visited:
            touching.append((first, inside))
    return touching


def _of_lines(lines: Tensor, taps: int, dilation: int) -> Tensor:
    """Return the Gram matrix of a kernel of all rows and `taps` columns, moved along columns."""
    # (records, channels, rows, at, taps)
    patches = lines.unfold(3, dilation * (taps - 1) + 1, 1)[..., ::dilation]
    columns = patches.permute(1, 2, 4, 0, 3).flatten(3)
    shape = columns.shape[:3]
    columns = columns.flatten(0, 2)
    return (columns @ columns.T).double().reshape(*shape, *shape)
