"""A small convolutional network: functional ReLU, `view`, and a dict with an auxiliary head in training."""

import torch.nn.functional as F
from torch import nn


class PictureNet(nn.Module):
    """Three strided convolutions and two linear layers."""

    def __init__(self, num_classes=10, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.norm3 = nn.BatchNorm2d(4 * width)
        self.hidden = nn.Linear(4 * width * 4 * 4, 64)
        self.head = nn.Linear(64, num_classes)
        self.aux = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        """Return logits; in training mode, those of both heads by name."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        middle = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        x = F.relu(self.norm3(self.conv3(x)))
        x = F.relu(self.hidden(x.contiguous().view(x.size(0), -1)))
        logits = self.head(x)
        if self.training:
            return {"logits": logits, "aux": self.aux(middle)}
        return logits


def make_network(num_classes=10, width=16):
    """Return an untrained network."""
    return PictureNet(num_classes, width)
