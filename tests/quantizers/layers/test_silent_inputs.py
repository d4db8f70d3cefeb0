"""A layer whose inputs are 0 for all calibration images is rounded to nearest: zeros would silence it for others."""

import numpy as np
import pytest
import torch
from torch import nn

import bitleak


class Dead(nn.Module):
    """The inputs of the head are 0 for every image."""

    def __init__(self):
        super().__init__()
        self.stem, self.bright = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)
        with torch.no_grad():
            self.stem.bias.fill_(-100)

    def forward(self, x):
        return self.bright(self.stem(x).relu().flatten(1))


QUANTIZERS = {
    "obc": bitleak.OBC(levels=4),
    "gptq": bitleak.GPTQ(levels=4),
    "adaround": bitleak.AdaRound(levels=4, iterations=200),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_layer_whose_inputs_are_all_zero_is_rounded_to_nearest(name):
    torch.manual_seed(0)
    network = Dead().eval()
    dark = torch.randn(32, 1, 8, 8) * 0.1 - 1
    found = QUANTIZERS[name](network, dark, torch.Generator()).layers["bright"]
    weight = network.bright.weight.detach().numpy()
    steps = weight / found.scale[:, None] + found.zero_point[:, None]
    nearest = np.clip(np.rint(steps), 0, 3)
    tied = abs(steps - np.floor(steps) - 0.5) < 1e-3
    assert (found.codes == nearest)[~tied].all()
    assert len(np.unique(found.codes)) > 2
