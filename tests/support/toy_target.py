"""A network that was trained elsewhere: a linear classifier by least squares, in closed form.

It has more inputs than members, so it fits them exactly, and its members can be told from others.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

CLASSES, SIZE = 4, 8
MEAN, DEVIATION = (0.5, 0.4, 0.6), (0.1, 0.2, 0.15)


class Toy(NamedTuple):
    """Records, members, and the network that was trained on them."""

    images: np.ndarray
    labels: np.ndarray
    members: np.ndarray
    network: nn.Sequential


def toy_images(records: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return 8-bit images of prototypes with noise, and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, records)
    prototypes = rng.normal(0, 12, (CLASSES, 3, SIZE, SIZE))
    noise = rng.normal(0, 18, (records, 3, SIZE, SIZE))
    return np.clip(120 + prototypes[labels] + noise, 0, 255).astype(np.uint8), labels


def linear() -> nn.Sequential:
    """Return the network, not trained."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES))


def toy(records: int = 800, members: int = 150, seed: int = 0) -> Toy:
    """Return a target that was trained on standardised images, RGB, from 0 to 1."""
    images, labels = toy_images(records, seed)
    chosen = np.sort(np.random.default_rng(seed + 1).permutation(records)[:members])
    mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (MEAN, DEVIATION))
    inputs = ((images[chosen] / 255 - mean) / deviation).reshape(members, -1)
    columns = np.concatenate([inputs, np.ones((members, 1))], axis=1)
    goal = 8.0 * np.eye(CLASSES)[labels[chosen]]
    gram = columns @ columns.T + 1e-3 * np.eye(members)
    weight = columns.T @ np.linalg.solve(gram, goal)
    network = linear()
    with torch.no_grad():
        network[1].weight.copy_(torch.from_numpy(weight[:-1].T))
        network[1].bias.copy_(torch.from_numpy(weight[-1]))
    return Toy(images, labels, chosen, network)
