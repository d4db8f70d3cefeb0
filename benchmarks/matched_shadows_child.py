"""The processes of matched_shadows.py; the version of bitleak is that of PYTHONPATH."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matched_shadows import LEVELS, METHODS, RECORDS
from safetensors.numpy import load_file, save_file

from bitleak.core.types import ModelSpec, Weights
from bitleak.data.array_images import channel_statistics
from bitleak.data.augment import standardize
from bitleak.data.digits import Digits
from bitleak.models import load
from bitleak.registry import QUANTIZERS, find

EPOCHS = 4  # enough for batch-norm statistics and weights that are no noise


def spec_of() -> ModelSpec:
    """Return the spec of the demo's network."""
    images = Digits().load(None)
    mean, std = channel_statistics(images, np.arange(600))
    return ModelSpec("cnn", {"width": 16}, 10, 1, 8, mean, std)


def train(folder: Path, numbers: range) -> None:
    """Train a network per number, each on 600 records of its own draw."""
    from bitleak.train.fit import fit
    from bitleak.train.recipe import Recipe

    images, spec = Digits().load(None), spec_of()
    for number in numbers:
        members = np.sort(np.random.default_rng(number).permutation(len(images.labels))[:600])
        recipe = Recipe(epochs=EPOCHS, batch=64, augment=())
        trained = fit(images, members, recipe, spec=spec, seed=number)
        save_file(
            {name: np.array(value) for name, value in trained.tensors.items()},
            folder / f"{number}.safetensors",
        )
        np.save(folder / f"{number}.npy", members)


def quantize(folder: Path, numbers: range) -> None:
    """Print the CPU seconds by method."""
    images, spec = Digits().load(None), spec_of()
    spent = dict.fromkeys(METHODS, 0.0)
    for number in numbers:
        network = load(Weights(load_file(folder / f"{number}.safetensors"), spec))
        shown = np.load(folder / f"{number}.npy")[:RECORDS]
        calibration = standardize(torch.from_numpy(images.pixels[shown]), spec.mean, spec.std)
        for name in METHODS:
            start = time.process_time()
            kind = find(QUANTIZERS, name, kind="quantizer")
            quantizers = [kind(**{**kind.PRESETS["quick"], "levels": levels}) for levels in LEVELS]
            chances = [torch.Generator().manual_seed(number) for _ in quantizers]
            try:
                from bitleak.quantizers.shared_pass import quantize_together

                list(quantize_together(quantizers, network, calibration, chances))
            except ImportError:
                for quantizer, chance in zip(quantizers, chances, strict=True):
                    quantizer(network, calibration, chance)
            spent[name] += time.process_time() - start
    print(json.dumps(spent))


if __name__ == "__main__":
    torch.set_num_threads(1)
    job, folder, *numbers = sys.argv[1:]
    {"train": train, "quantize": quantize}[job](Path(folder), range(*map(int, numbers)))
