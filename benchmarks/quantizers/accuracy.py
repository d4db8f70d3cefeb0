"""Test accuracy, error of the logits and CPU seconds of each method on the networks.

The other tools' methods run in their own environment and return weights, which are evaluated here
like the others, with the batch norm as the tool leaves it and with its statistics re-estimated as
`obc` does.
"""

import copy
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.quantizers.jobs import Job, timed
from benchmarks.quantizers.methods import Method, methods
from benchmarks.quantizers.networks import Bench
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bitleak.core.seeds import seed_for
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.network.norm_folding import fold
from bitleak.quantizers.network.norm_statistics import moments_of, reestimate
from bitleak.quantizers.scheme import quantizable

ROOT = Path(__file__).resolve().parents[2]
AUGMENTED = (
    "obc",
    "obc-quantized-polish",
    "gptq-activation",
)  # also with images augmented as in training


def accuracy_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Yield one job per method, levels and seed, and one per unchanged network."""
    for seed in seeds:
        yield Job("accuracy", "fp32", seed, lambda seed=seed: _full_precision(bench, seed))
        for count in levels:
            for name, method in methods(count, bench.sizes).items():
                run = partial(_run, bench, seed, count, method, before=name == "obc")
                yield Job("accuracy", f"{name}@{count}", seed, run())
                if name in AUGMENTED:
                    yield Job("accuracy", f"{name}-augmented@{count}", seed, run(augmented=True))


def _run(
    bench: Bench, seed: int, levels: int, method: Method, *, before: bool, augmented: bool = False
) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        network, calibration = bench.network(seed), bench.calibration(seed)
        if augmented:
            calibration = bench.augmented(seed, records=bench.sizes.calibration, rounds=1)
        chance = torch.Generator().manual_seed(seed_for(seed, "quantize"))
        quantized, seconds = timed(lambda: method(network, calibration, chance))
        errors = [
            layer["relative_error"]
            for layer in quantized.record.values()
            if "relative_error" in layer
        ]
        figures = judged(bench, seed, deployed(network, quantized))
        return {
            **figures,
            **(_before(bench, seed, network, quantized) if before else {}),
            "levels": levels,
            "codes": max(most_codes(layer.codes) for layer in quantized.layers.values()),
            "cpu_seconds": seconds,
            "layer_error": sum(errors) / len(errors) if errors else None,
        }

    return run


def judged(bench: Bench, seed: int, changed: nn.Module) -> dict[str, Any]:
    """Return accuracy and error of the logits of a changed network, on the test images."""
    pixels, labels = bench.test()
    expected, logits = _expected(bench, seed, pixels), bench.logits(changed, pixels)
    predictions = logits.argmax(1)
    return {
        "accuracy": float((predictions == labels).mean()),
        "logit_error": float(np.square(logits - expected).sum() / np.square(expected).sum()),
        "correct": predictions == labels,
    }


def _expected(bench: Bench, seed: int, pixels: Tensor) -> np.ndarray:
    """Return the full-precision network's logits, kept in the folder of results."""
    stored = bench.out / f"logits-{seed}-{len(pixels)}.npy"
    if not stored.exists():
        bench.out.mkdir(parents=True, exist_ok=True)
        np.save(stored, bench.logits(bench.network(seed), pixels))
    return np.load(stored)


def _full_precision(bench: Bench, seed: int) -> dict[str, Any]:
    return judged(bench, seed, bench.network(seed))


def _before(
    bench: Bench, seed: int, network: nn.Module, quantized: QuantizedWeights
) -> dict[str, float]:
    """Return the accuracy with the full-precision network's batch-norm statistics, if the weights
    are its own.
    """
    state = network.state_dict()
    statistics = {key: state[key].numpy() for key in state if "running_" in key}
    factors = [key for key in quantized.rest if key.endswith(".weight")]
    if any((quantized.rest[key] != state[key].numpy()).any() for key in factors):  # folded
        return {}
    if all((quantized.rest[key] == value).all() for key, value in statistics.items()):
        return {}
    with_statistics = QuantizedWeights(quantized.layers, {**quantized.rest, **statistics})
    before = judged(bench, seed, deployed(network, with_statistics))
    return {
        "accuracy_before_statistics": before["accuracy"],
        "logit_error_before": before["logit_error"],
    }


def most_codes(weight: np.ndarray) -> int:
    """Return the largest number of different values in an output channel."""
    return max(len(np.unique(row)) for row in weight.reshape(len(weight), -1))


def peer_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Yield one job per tool, algorithm and settings."""
    for seed, count in product(seeds, levels):
        for script, options in _peer_options(count):
            words = [
                str(value) for key, value in options.items() if key not in ("levels", "folded")
            ]
            name = "-".join([script, *words, *(["folded"] if options["folded"] else [])])
            yield Job("peers", f"{name}@{count}", seed, _run_peer(bench, seed, script, options))


def _peer_options(levels: int) -> Iterator[tuple[str, dict[str, Any]]]:
    choices = product(
        ("gpfq", "qronos", "gptq"), ("stats", "mse"), ("index", "activation"), (False, True)
    )
    if levels in (2, 3, 4, 8, 16, 256):
        for algorithm, grid, order, folded in choices:
            yield (
                "brevitas",
                {
                    "algorithm": algorithm,
                    "levels": levels,
                    "grid": grid,
                    "order": order,
                    "folded": folded,
                },
            )
    if levels in (4, 16, 256):
        for scheme in ("post_training_tf_enhanced", "min_max"):
            yield "aimet", {"levels": levels, "iterations": 500, "scheme": scheme, "folded": False}


def _run_peer(bench: Bench, seed: int, script: str, options: Mapping[str, Any]) -> Any:
    def run() -> dict[str, Any]:
        network = bench.network(seed)
        if options["folded"]:
            network = fold(network)
        reference = copy.deepcopy(network)
        tensors, seconds = _peer(bench, seed, script, options, network)
        network.load_state_dict(tensors)
        figures = {
            **judged(bench, seed, network),
            "options": dict(options),
            "codes": max(
                most_codes(tensors[f"{name}.weight"].numpy()) for name in quantizable(network)
            ),
            "cpu_seconds": seconds,
        }
        images = bench.calibration(seed)
        _, seconds_more = timed(
            lambda: reestimate(network, images, reference=moments_of(reference, images))
        )
        again = {f"{key}_reestimated": value for key, value in judged(bench, seed, network).items()}
        return {**figures, **again, "cpu_seconds_reestimation": seconds_more}

    return run


def _peer(
    bench: Bench, seed: int, script: str, options: Mapping[str, Any], network: nn.Module
) -> tuple[dict[str, Tensor], float]:
    """Return the state dict that the tool writes, and its CPU seconds."""
    bench.spec()
    passed = json.dumps({key: value for key, value in options.items() if key != "folded"})
    with tempfile.TemporaryDirectory() as folder:
        weights, result = Path(folder) / "weights.safetensors", Path(folder) / "result.safetensors"
        save_file(network.state_dict(), weights)
        command = [
            bench.peers,
            Path(__file__).parent / f"peer_{script}.py",
            bench.cache / "spec.json",
            weights,
        ]
        ran = subprocess.run(
            [*command, bench.calibration_file(seed), result, passed],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise SystemExit(f"peer_{script}.py {passed} failed:\n{ran.stderr[-2000:]}")
        with safe_open(result, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, float(file.metadata()["cpu_seconds"])
