"""The toy target as files: a checkpoint as real code saves it, a list of members, and a config."""

import numpy as np
import torch
from toy_target import DEVIATION, MEAN, toy

NETS = """
from torch import nn

def linear(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
"""


def target_of(tmp_path, monkeypatch):
    """Write data, network and checkpoint of the toy target, and return a config of it."""
    target = toy()
    (tmp_path / "toynets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    np.savez(tmp_path / "toy.npz", pixels=target.images, labels=target.labels)
    np.save(tmp_path / "members.npy", np.isin(np.arange(800), target.members))
    tensors = {
        f"module._orig_mod.{name}": value for name, value in target.network.state_dict().items()
    }
    torch.save({"epoch": 9, "model": {"state_dict": tensors}, "loss": 0.1}, tmp_path / "model.pt")
    return {
        "data": {"name": "arrays", "path": "toy.npz"},
        "model": {"name": "external", "factory": "toynets:linear"},
        "query": {"augment": ["identity"]},
        "fpr": [0.05],
        "target": {
            "weights": "model.pt",
            "members": "members.npy",
            "mean": list(MEAN),
            "deviation": list(DEVIATION),
            "releases": {"again": "model.pt", "coarse": {"name": "rtn", "levels": 3}},
        },
    }
