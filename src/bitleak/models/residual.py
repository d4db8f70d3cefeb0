"""The common parts of residual networks: the basic block, and a stem with stages of blocks."""

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.fx import Proxy

from bitleak.core.checks import integer_in

Maps = Tensor | Proxy
"""Feature maps, `records channels height width`, or their proxy while torch.fx traces."""

Shortcut = Literal["projection", "padding"]


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), He et al. 2016 (arXiv 1512.03385), figure 2.

    Attributes:
        shortcut: Empty if the shape stays; else a 1x1 convolution with batch norm (`projection`,
            their option B) or every second pixel and zero channels (`padding`, their option A).
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, shortcut: Shortcut = "projection"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride, shortcut)
        self.relu2 = nn.ReLU()

    def forward(self, maps: Maps) -> Maps:
        """Map feature maps to feature maps; height and width are divided by the stride."""
        hidden = self.relu1(self.bn1(self.conv1(maps)))
        total: Maps = self.bn2(self.conv2(hidden)) + self.shortcut(maps)
        activated: Maps = self.relu2(total)
        return activated


def residual_network(
    classes: int,
    channels: int,
    *,
    widths: tuple[int, ...],
    depth: int,
    shortcut: Shortcut = "projection",
) -> nn.Sequential:
    """Return a 3x3 stem, a stage of `depth` basic blocks per width, average pooling, a classifier.

    The first stage keeps the image's size, each later one halves it. Convolutions have no bias;
    the initialisation is PyTorch's own.
    """
    integer_in("classes", classes, 2)
    integer_in("channels", channels, 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
    layers["bn"] = nn.BatchNorm2d(widths[0])
    layers["relu"] = nn.ReLU()
    for number, (inputs, outputs) in enumerate(pairwise((widths[0], *widths)), start=1):
        first = BasicBlock(inputs, outputs, 1 if number == 1 else 2, shortcut)
        rest = [BasicBlock(outputs, outputs, 1, shortcut) for _ in range(depth - 1)]
        layers[f"stage{number}"] = nn.Sequential(first, *rest)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(widths[-1], classes)
    return nn.Sequential(layers)


def _shortcut(inputs: int, outputs: int, stride: int, kind: Shortcut) -> nn.Sequential:
    if inputs == outputs and stride == 1:
        return nn.Sequential()
    if kind == "projection":
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    before = (outputs - inputs) // 2
    # On maps without a depth axis, the third pair of ZeroPad3d pads the channels.
    padding = nn.ZeroPad3d((0, 0, 0, 0, before, outputs - inputs - before))
    return nn.Sequential(nn.AvgPool2d(1, stride=stride), padding)
