"""A small residual network for images of 8x8 pixels and more, quick enough for one CPU core."""

from torch import nn

from bitleak.core.checks import integer_in
from bitleak.models.residual import residual_network


def cnn(classes: int, channels: int, size: int, *, width: int = 16, depth: int = 1) -> nn.Module:
    """Return a stem and three stages of basic blocks, or two for images below 16x16 pixels.

    Args:
        classes: Number of classes, at least 2.
        channels: Channels of an image.
        size: Height and width of an image, at least 8.
        width: Channels of the first stage; each later stage has twice as many as the one before.
        depth: Basic blocks per stage.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> sum(parameter.numel() for parameter in cnn(10, 1, 8).parameters())
        19706
    """
    integer_in("size of the images for model cnn", size, 8)
    integer_in("width", width, 1)
    integer_in("depth", depth, 1)
    # The last map is at least 4x4, as two or one of the stages halve it.
    stages = 3 if size >= 16 else 2
    return residual_network(
        classes, channels, widths=tuple(width * 2**i for i in range(stages)), depth=depth
    )
