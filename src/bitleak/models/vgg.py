"""VGG with batch normalisation for small images.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015
(arXiv 1409.1556), configuration A, with batch norm after each convolution. Deviation: the three
fully connected layers are replaced by global average pooling and one linear layer, as is usual
for CIFAR, since they were made for maps of 7x7 pixels.
"""

from collections import OrderedDict

from torch import nn

from bitleak.core.checks import integer_in

CONVOLUTION_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Channels of each convolution in units of the width; a 2x2 max-pooling ends each stage."""


def vgg11_bn(classes: int, channels: int, size: int, *, width: int = 64) -> nn.Module:
    """VGG-11 with batch norm: 9,231,114 parameters at 10 classes and 3 channels.

    Poolings that would leave less than one pixel are left out (images below 32x32).

    Args:
        classes: Number of classes, at least 2.
        channels: Channels of an image.
        size: Height and width of an image, at least 8.
        width: Channels of the first stage; 64 in the paper.

    Raises:
        ValueError: A number is out of range.
    """
    integer_in("classes", classes, 2)
    integer_in("channels", channels, 1)
    integer_in("size of the images for model vgg11_bn", size, 8)
    integer_in("width", width, 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, left = channels, size
    # `left` is the size of the map: a stage that has one pixel is not pooled.
    for number, stage in enumerate(CONVOLUTION_STAGES, start=1):
        layers[f"stage{number}"] = nn.Sequential(
            OrderedDict(_stage(inputs, [width * unit for unit in stage], left))
        )
        inputs, left = width * stage[-1], max(left // 2, 1)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def _stage(inputs: int, widths: list[int], size: int) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for number, outputs in enumerate(widths, start=1):
        layers.append((f"conv{number}", nn.Conv2d(inputs, outputs, 3, padding=1)))
        layers.append((f"bn{number}", nn.BatchNorm2d(outputs)))
        layers.append((f"relu{number}", nn.ReLU()))
        inputs = outputs
    return [*layers, ("pool", nn.MaxPool2d(2))] if size >= 2 else layers
