"""Residual networks for small images, with a 3x3 stem of stride 1 and no max-pooling.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016 (arXiv 1512.03385).
"""

from torch import nn

from bitleak.core.checks import integer_in
from bitleak.models.residual import residual_network


def resnet18(classes: int, channels: int, size: int, *, width: int = 64) -> nn.Module:
    """ResNet-18 with the CIFAR stem: 11,173,962 parameters at 10 classes and 3 channels.

    Table 1 of the paper from `conv2_x` on, with 1x1 convolutions on the shortcuts that change shape
    (option B). The stem is that of the usual CIFAR variant, for 64x64 images too.

    Args:
        classes: Number of classes, at least 2.
        channels: Channels of an image.
        size: Height and width of an image, at least 8.
        width: Channels of the first stage; 64 in the paper.

    Raises:
        ValueError: A number is out of range.
    """
    integer_in("size of the images for model resnet18", size, 8)
    integer_in("width", width, 1)
    return residual_network(
        classes, channels, widths=(width, 2 * width, 4 * width, 8 * width), depth=2
    )


def resnet20(classes: int, channels: int, size: int, *, width: int = 16) -> nn.Module:
    """ResNet-20 for CIFAR, section 4.2 with n = 3: 269,722 parameters at 10 classes and 3 channels.

    Shortcuts without parameters (option A, as in the paper's CIFAR experiments): every second
    pixel, and zero channels on both sides.

    Args:
        classes: Number of classes, at least 2.
        channels: Channels of an image.
        size: Height and width of an image, at least 8.
        width: Channels of the first stage; 16 in the paper.

    Raises:
        ValueError: A number is out of range.
    """
    integer_in("size of the images for model resnet20", size, 8)
    integer_in("width", width, 1)
    widths = (width, 2 * width, 4 * width)
    return residual_network(classes, channels, widths=widths, depth=3, shortcut="padding")
