"""The loop that most training scripts have, as the alternative that `training.py` measures against.

A `Dataset` of PIL images, a random crop with padding 4, a flip, conversion to a tensor and
normalisation image by image, a `DataLoader`, float32 in PyTorch's default memory order, eager,
default SGD, and `loss.item()` in every step. Queries use the same loop, once per augmentation.
"""

import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bitleak.core.types import Images, ModelSpec
from bitleak.train.recipe import Recipe, rate_at

Transform = Callable[[Image.Image], Image.Image]


class Photos(Dataset):
    """Records as standardised tensors, one at a time."""

    def __init__(
        self, images: Images, records: np.ndarray, spec: ModelSpec, transforms: list[Transform]
    ) -> None:
        channels_last = images.pixels[records].transpose(0, 2, 3, 1)
        self.photos = [Image.fromarray(pixels) for pixels in channels_last]
        self.labels = images.labels[records].tolist()
        self.mean, self.std = (
            torch.tensor(moments).view(-1, 1, 1) for moments in (spec.mean, spec.std)
        )
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        photo = self.photos[index]
        for transform in self.transforms:
            photo = transform(photo)
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1).contiguous().float().div(255)
        return pixels.sub_(self.mean).div_(self.std), self.labels[index]


def flipped(photo: Image.Image) -> Image.Image:
    """Mirror with probability 1/2."""
    return mirrored(photo) if random.random() < 0.5 else photo


def mirrored(photo: Image.Image) -> Image.Image:
    """Mirror left to right."""
    return photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cropped(photo: Image.Image) -> Image.Image:
    """Return a random window of the photo with a margin of 4 black pixels."""
    padded = ImageOps.expand(photo, border=4)
    left, top = random.randint(0, 8), random.randint(0, 8)
    return padded.crop((left, top, left + photo.width, top + photo.height))


TRAINING: dict[str, Transform] = {"flip": flipped, "crop": cropped}


def train(
    network: nn.Module,
    photos: Photos,
    recipe: Recipe,
    *,
    device: str = "cpu",
    workers: int = 0,
    on_epoch: Callable[[int, float], None],
) -> None:
    """Train the network; `on_epoch` takes the epoch's number from 1 and its mean loss."""
    loader = DataLoader(
        photos, recipe.batch, shuffle=True, num_workers=workers, pin_memory=device != "cpu"
    )
    network.to(device).train()
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    for epoch in range(recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(recipe, epoch)
        total = 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(inputs.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        on_epoch(epoch + 1, total / len(photos))


def ask(
    network: nn.Module, photos: Photos, *, batch: int, device: str = "cpu", workers: int = 0
) -> np.ndarray:
    """Return the logits of all photos."""
    loader = DataLoader(photos, batch, num_workers=workers, pin_memory=device != "cpu")
    network.to(device).eval()
    with torch.no_grad():
        return np.concatenate([network(inputs.to(device)).cpu().numpy() for inputs, _ in loader])
