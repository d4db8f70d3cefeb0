"""MobileNetV2 with the strides usual for CIFAR.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
2018 (arXiv 1801.04381), table 2. Deviations, for 32x32 images: stride 1 instead of 2 in the stem
and in the second group of blocks; no dropout before the classifier.
"""

import operator
from collections import OrderedDict

from torch import nn

from bitleak.core.checks import integer_in, number_in
from bitleak.models.residual import Maps

BLOCK_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, number of blocks, stride of the first."""


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1; add the input if shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = _convolution(inputs, hidden, 1) if expansion > 1 else []
        project = [
            ("project", nn.Conv2d(hidden, outputs, 1, bias=False)),
            ("bn", nn.BatchNorm2d(outputs)),
        ]
        filter_each = _convolution(hidden, hidden, 3, stride=stride, groups=hidden)
        body: OrderedDict[str, nn.Module] = OrderedDict()
        for prefix, layers in (("expand_", expand), ("depthwise_", filter_each), ("", project)):
            for name, layer in layers:
                body[prefix + name] = layer
        self.body = nn.Sequential(body)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Maps) -> Maps:
        """Map feature maps to feature maps; height and width are divided by the stride."""
        projected: Maps = self.body(maps)
        return operator.add(maps, projected) if self.residual else projected


def mobilenet_v2(classes: int, channels: int, size: int, *, width: float = 1.0) -> nn.Module:
    """MobileNetV2: 2,236,682 parameters at 10 classes and 3 channels.

    Args:
        classes: Number of classes, at least 2.
        channels: Channels of an image.
        size: Height and width of an image, at least 8.
        width: The paper's width multiplier, 0.1 to 4; channels are rounded to multiples of 8.

    Raises:
        ValueError: A number is out of range.
    """
    integer_in("classes", classes, 2)
    integer_in("channels", channels, 1)
    integer_in("size of the images for model mobilenet_v2", size, 8)
    number_in("width", width, 0.1, 4.0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, last = _multiple_of_8(32 * width), _multiple_of_8(1280 * max(width, 1.0))
    layers["stem"] = nn.Sequential(OrderedDict(_convolution(channels, inputs, 3)))
    for number, (expansion, base, blocks, stride) in enumerate(BLOCK_GROUPS, start=1):
        outputs = _multiple_of_8(base * width)
        first = InvertedResidual(inputs, outputs, stride, expansion)
        rest = [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(blocks - 1)]
        layers[f"group{number}"] = nn.Sequential(first, *rest)
        inputs = outputs
    layers["head"] = nn.Sequential(OrderedDict(_convolution(inputs, last, 1)))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(last, classes)
    return nn.Sequential(layers)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[tuple[str, nn.Module]]:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [("conv", conv), ("bn", nn.BatchNorm2d(outputs)), ("relu", nn.ReLU6())]


def _multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8, and not below 90 % of the given number."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
