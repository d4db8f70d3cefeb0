"""A network in its runtime, as a module that PyTorch code evaluates as any other."""

import numpy as np
import torch
from torch import Tensor, nn

from bitleak.runtimes.runtime import OpenNetwork


class FileNetwork(nn.Module):
    """Answers images by a runtime; it has no parameters and no gradients.

    Args:
        opened: The network in its runtime.
    """

    def __init__(self, opened: OpenNetwork) -> None:
        super().__init__()
        self.opened = opened

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of standardised images on the CPU."""
        return torch.from_numpy(self.opened(np.ascontiguousarray(images.numpy())))
