"""The networks and images of the benchmark: `cnn` of width 32, trained on CIFAR-10.

The weights of the published tables are kept in `trained`; other seeds, and all seeds without that
folder, are trained in bfloat16 (minutes each on a core with its instructions, hours on one
without). A folder, the cache, holds the files that are made once: the decoded images
(`cifar10.npz`), the spec (`spec.json`), and per seed the trained weights (`net-0.safetensors`) and
the calibration images (`calibration-0.safetensors`), which other tools read as well. The members
are all 50,000 training images; 1,024 of them, drawn by seed and not augmented, are the calibration
images of every method.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn

from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.data.array_images import channel_statistics
from bitleak.data.augment import augmented, standardize
from bitleak.models import load
from bitleak.registry import DATASETS, find
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

WIDTH = 32
RECIPE = Recipe(
    epochs=9,
    batch=128,
    learning_rate=0.1,
    augment=("flip", "crop"),
    autocast="bfloat16",
    nesterov=True,
)
BATCH = 500  # test images at a time
KEPT = (
    Path(__file__).resolve().parent / "trained"
)  # networks that were trained once, so that figures belong together


@dataclass(frozen=True)
class Sizes:
    """Numbers of images and iterations; the defaults are those of the published tables.

    Attributes:
        calibration: Images for calibration.
        test: Test images.
        loop: Iterations of the published loops if they are run in full.
        short: Iterations if preset `paper` is cut short.
    """

    calibration: int = 1024
    test: int = 10_000
    loop: int = 20_000
    short: int = 2_000


@dataclass(frozen=True)
class Bench:
    """Folders of the data, the cache and the results, another tool's Python, and the sizes."""

    data: Path
    cache: Path
    out: Path
    peers: Path
    sizes: Sizes

    def images(self) -> Images:
        """Return all of CIFAR-10, decoded once."""
        stored = self.cache / "cifar10.npz"
        if not stored.exists():
            if not self.data.is_dir():
                raise SystemExit(
                    f"--data must be a folder with CIFAR-10 as Parquet, got {self.data}"
                )
            images = find(DATASETS, "hub", kind="data set")(path="uoft-cs/cifar10").load(self.data)
            self.cache.mkdir(parents=True, exist_ok=True)
            np.savez(stored, pixels=images.pixels, labels=images.labels, held_out=images.held_out)
        arrays = np.load(stored)
        return Images(
            arrays["pixels"], arrays["labels"], tuple(map(str, range(10))), arrays["held_out"]
        )

    def spec(self) -> ModelSpec:
        """Return the network's spec, with the standardisation of the members."""
        stored = self.cache / "spec.json"
        if not stored.exists():
            images = self.images()
            mean, std = channel_statistics(images, np.flatnonzero(~images.held_out))
            spec = ModelSpec(
                "cnn", {"width": WIDTH}, classes=10, channels=3, size=32, mean=mean, std=std
            )
            stored.write_text(json.dumps(asdict(spec)))
        return ModelSpec(**json.loads(stored.read_text()))

    def weights(self, seed: int) -> Path:
        """Return the file of the trained weights, in the cache or else in `trained`."""
        cached, published = self.cache / f"net-{seed}.safetensors", KEPT / f"net-{seed}.safetensors"
        return published if published.exists() and not cached.exists() else cached

    def train(self, seed: int) -> None:
        """Train the network of a seed if it is missing."""
        if self.weights(seed).exists():
            return
        images = self.images()
        members = np.flatnonzero(~images.held_out)
        trained = fit(
            images,
            members,
            RECIPE,
            spec=self.spec(),
            seed=seed,
            on_epoch=lambda epoch, loss: print(seed, epoch, loss),
        )
        tensors = {
            name: torch.from_numpy(np.array(value)) for name, value in trained.tensors.items()
        }
        save_file(tensors, self.cache / f"net-{seed}.safetensors")

    def network(self, seed: int) -> nn.Module:
        """Return the trained network."""
        if not self.weights(seed).exists():
            raise SystemExit(f"{self.weights(seed)} is missing: run the step `train` first")
        return load(Weights(load_file(self.weights(seed)), self.spec()))

    def calibration_file(self, seed: int) -> Path:
        """Return the file of the calibration images, drawn from the members."""
        stored = self.cache / f"calibration-{seed}-{self.sizes.calibration}.safetensors"
        if not stored.exists():
            images = self.images()
            chosen = self._members(images, seed)[: self.sizes.calibration]
            save_file({"calibration": self._standard(images.pixels[chosen])}, stored)
        return stored

    def calibration(self, seed: int) -> Tensor:
        """Return the calibration images, standardised."""
        return torch.from_numpy(load_file(self.calibration_file(seed))["calibration"].copy())

    def augmented(self, seed: int, *, records: int, rounds: int) -> Tensor:
        """Return calibration images as in the paper's OBC: some members, augmented anew in each
        round.
        """
        images = self.images()
        pixels = torch.from_numpy(images.pixels[self._members(images, seed)[:records]])
        chance = torch.Generator().manual_seed(seed_for(seed, "augment", "calibration"))
        return torch.cat(
            [self._standard(augmented(pixels, RECIPE.augment, chance)) for _ in range(rounds)]
        )

    def test(self) -> tuple[Tensor, np.ndarray]:
        """Return test pixels and labels."""
        images = self.images()
        chosen = np.flatnonzero(images.held_out)[: self.sizes.test]
        return torch.from_numpy(images.pixels[chosen]), images.labels[chosen]

    @torch.no_grad()
    def logits(self, network: nn.Module, pixels: Tensor) -> np.ndarray:
        """Return the network's answers to test pixels; this time is not counted."""
        network = network.to(memory_format=torch.channels_last)
        parts = [
            network(self._standard(chunk).contiguous(memory_format=torch.channels_last))
            for chunk in pixels.split(BATCH)
        ]
        return torch.cat(parts).numpy()

    def _members(self, images: Images, seed: int) -> np.ndarray:
        return np.random.default_rng(seed_for(seed, "calibration")).permutation(
            np.flatnonzero(~images.held_out)
        )

    def _standard(self, pixels: np.ndarray | Tensor) -> Tensor:
        return standardize(torch.as_tensor(pixels), self.spec().mean, self.spec().std)
