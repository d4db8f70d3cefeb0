"""What `bitleak plan` expects of a quantizer, beside what it takes: CPU seconds on one core.

    python benchmarks/plan_rates.py [--networks cnn:16 resnet18:16] [--methods adaround brecq ...] [--images 1024]

Each method quantizes an untrained network at 3 levels, from random images of 32x32 pixels, by its default
and its preset `paper`. What is learnt in steps is run with 1 and 5 % of the steps, at least 50 and 250, and
what all of them take follows from the two; the rest of the work is in full. The last column is expected /
measured: above 1, the plan expects too much.

`SLOWDOWN` in `bitleak.steps.quantizing_work` is set by this, on one core of an AMD EPYC with AVX2.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from bitleak import registry
from bitleak.config import CalibrationConfig
from bitleak.core.types import ModelSpec
from bitleak.models import build, profile
from bitleak.models.precision import exact_float32
from bitleak.steps.quantizing_work import RATES, quantizing_work
from bitleak.steps.scale import NetworkSize

METHODS = ("rtn", "adaround", "brecq", "obc", "gptq")
LEVELS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["cnn:16", "resnet18:16"])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--images", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | method | expected s | measured s | expected / measured |")
    print("|---|---|---|---|---|")
    for text in options.networks:
        name, _, width = text.partition(":")
        spec = ModelSpec(name, {"width": int(width)}, 100, 3, 32, (0.5,) * 3, (0.25,) * 3)
        for method in options.methods:
            for preset in ("", "paper"):
                quantizer = registry.find(registry.QUANTIZERS, method, kind="quantizer")
                fields = dict(quantizer.PRESETS[preset]) if preset else {}
                expected = planned(
                    spec, method, {**asdict(quantizer(levels=LEVELS)), **fields}, options.images
                )
                measured = measure(spec, quantizer, fields, options.images)
                label = f"{method}, {preset}" if preset else method
                print(
                    f"| {text} | {label} | {expected:.1f} | {measured:.1f} | {expected / measured:.2f} |",
                    flush=True,
                )


def planned(spec: ModelSpec, method: str, fields: Mapping[str, Any], images: int) -> float:
    """Return the seconds that a plan expects."""
    size = profile(spec)
    network = NetworkSize(size.parameters, size.multiply_adds, tuple(size.layers.values()))
    calibration = CalibrationConfig(records=images)
    return quantizing_work(method, fields, calibration, network, shared=False) / RATES["cpu"]


def measure(spec: ModelSpec, quantizer: Any, fields: Mapping[str, Any], images: int) -> float:
    """Return the CPU seconds of one quantization."""
    steps = getattr(quantizer(levels=LEVELS, **fields), "iterations", None)
    if steps is None:
        return seconds(spec, quantizer, fields, images)
    few, more = max(50, steps // 100), max(250, steps // 20)
    first, second = (
        seconds(spec, quantizer, {**fields, "iterations": count}, images) for count in (few, more)
    )
    return first + (second - first) / (more - few) * (steps - few)


def seconds(spec: ModelSpec, quantizer: Any, fields: Mapping[str, Any], images: int) -> float:
    """Return the CPU seconds of one quantization as it is."""
    generator = torch.Generator().manual_seed(0)
    network = build(spec, seed=0).eval()
    shown = torch.randn(images, spec.channels, spec.size, spec.size, generator=generator)
    started = time.process_time()
    with exact_float32():
        quantizer(levels=LEVELS, **fields)(network, shown, generator)
    return time.process_time() - started


if __name__ == "__main__":
    main()
