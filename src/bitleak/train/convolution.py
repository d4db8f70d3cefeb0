"""Convolutions on a CPU whose weight gradient, on small maps, is one matrix product.

For maps of 8x8 pixels and less, oneDNN (PyTorch 2.13, bfloat16) spends most of a wide layer's
weight gradient on anything but multiplying: 512 to 512 channels at 4x4 pixels take 206 ms for a
batch of 128, the product of the unfolded inputs with the gradient of the outputs 50 ms.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from bitleak.train.recipe import Arithmetic

SMALL_MAP = 64
"""Pixels of an output map up to which the product is faster."""


class Convolution(nn.Conv2d):
    """A convolution with another's weight, in the same place of the network."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the outputs of `nn.Conv2d`, with another backward pass."""
        if not torch.is_grad_enabled():
            return super().forward(input)
        outputs: Tensor = _Convolved.apply(input, self.weight, self.stride, self.padding)
        return outputs


def with_products(network: nn.Module, autocast: Arithmetic, device: torch.device) -> nn.Module:
    """Return the network with its plain convolutions replaced, on a CPU in bfloat16.

    Names, parameters and outputs stay; weight gradients change by the order of their sums.

    Example:
        >>> network = with_products(nn.Sequential(nn.Conv2d(1, 2, 3, bias=False)), "bfloat16", torch.device("cpu"))
        >>> type(network[0]).__name__, list(network.state_dict())
        ('Convolution', ['0.weight'])
    """
    if autocast != "bfloat16" or device.type != "cpu":
        return network
    for name, module in list(network.named_modules()):
        if name and type(module) is nn.Conv2d and _plain(module):
            names = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
            settings: dict[str, Any] = {name: getattr(module, name) for name in names}
            # On the meta device, so that no weight is drawn: it is the other's.
            replacement = Convolution(**settings, bias=False, device="meta")
            replacement.weight = module.weight
            replacement.train(module.training)
            network.set_submodule(name, replacement)
    return network


def _plain(layer: nn.Conv2d) -> bool:
    return (
        layer.bias is None
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and not any(
            (
                layer._forward_hooks,
                layer._forward_pre_hooks,
                layer._backward_hooks,
                layer._backward_pre_hooks,
            )
        )
    )


class _Convolved(torch.autograd.Function):
    """PyTorch's convolution, but for the weight gradient of small maps."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(
        ctx: FunctionCtx,
        images: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding  # type: ignore[attr-defined]
        return functional.conv2d(images, weight, stride=stride, padding=padding)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        small = gradient.shape[2:].numel() <= SMALL_MAP
        needed = (ctx.needs_input_grad[0], not small, False)
        shape = (None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, needed)
        by_images, by_weight, _ = torch.ops.aten.convolution_backward(
            gradient, images, weight, *shape
        )
        if small:
            by_weight = weight_gradient(images, gradient, weight, ctx.stride, ctx.padding)
        return by_images, by_weight, None, None


def weight_gradient(
    images: Float[Tensor, "records inputs height width"],
    gradient: Float[Tensor, "records outputs rows columns"],
    weight: Float[Tensor, "outputs inputs kernel_rows kernel_columns"],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "outputs inputs kernel_rows kernel_columns"]:
    """Return the derivative by the weight, as one product over records and positions."""
    # The windows of the padded images as a view, channels last, copied once as rows of a matrix.
    outputs, inputs, rows, columns = weight.shape
    padded = functional.pad(
        images.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])
    )
    by_record, by_row, by_column, by_channel = padded.stride()
    windows = padded.as_strided(
        (len(images), *gradient.shape[2:], rows, columns, inputs),
        (by_record, by_row * stride[0], by_column * stride[1], by_row, by_column, by_channel),
    )
    unfolded = windows.reshape(-1, rows * columns * inputs)
    product = gradient.permute(0, 2, 3, 1).reshape(-1, outputs).t() @ unfolded
    return product.view(outputs, rows, columns, inputs).permute(0, 3, 1, 2)
