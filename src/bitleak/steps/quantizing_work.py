"""Multiply-adds of a quantization, at the measured rates of its parts."""

import math
from collections.abc import Mapping
from typing import Any

from bitleak.config import CalibrationConfig
from bitleak.steps.scale import NetworkSize

RATES = {"cpu": 1.9e10, "cuda": 4.0e12}
"""Multiply-adds per second and worker of a forward pass in float32, by type of device; to be
corrected by what the store's manifests say as soon as there are any. On the CPU (one AVX2 core of an AMD EPYC), cnn of
width 16 is asked about 1,480 images of 32x32 pixels per second, and trained on 510: the same rate, with the backward
pass counted as two forward passes. The GPU's has not been measured."""

SLOWDOWN = {
    "search": 20.0,
    "adaround": 3.0,
    "brecq": 0.9,
    "obc": 8.0,
    "gptq": 3.0,
    "polish": 3.0,
    "exchange": 700.0,
}
"""How far the parts of the quantizers stay below that rate, on one core: cnn of width 16 and 32, and for BRECQ resnet18
of width 16 (`benchmarks/plan_rates.py`).
"""

ROUNDING = (0.31, 504.0)
"""What a step of AdaRound takes per weight, in multiply-adds: per column of its layer, and beside that."""


PASS = {"full_precision": 4.0, "quantized": 9.0}
"""What a pass over the images for a layer-wise quantizer's statistics takes, in forward passes, by its `inputs`."""

GRIDS, SEARCHES = 12 * 4.0, 2 * 4.0
"""Sweeps of coordinate descent by which a layer's grid is chosen: of all candidates, and of what is done together."""

COLUMN = {"gptq": 7.5e5, "polish": 3.2e5}
"""What the small operations for a column of a layer take (per sweep), in multiply-adds: 40 and 17 microseconds."""


def quantizing_work(
    name: str,
    options: Mapping[str, Any],
    calibration: CalibrationConfig,
    network: NetworkSize,
    shared: bool,
) -> float:
    """Return the work of one quantization, in multiply-adds at the rate of a forward pass.

    Args:
        name: A name of the registry's `QUANTIZERS`.
        options: Its arguments.
        calibration: Images that it sees.
        network: Size of the network.
        shared: Whether the pass over the images that can be shared is counted with another precision.
    """
    layers = network.layers
    images = calibration.records * calibration.rounds
    forward = 1.0 * network.multiply_adds * images
    steps = options.get("iterations", 0)
    slowdown = SLOWDOWN.get(name, 3.0)
    once = {  # for both grids, where there are two
        "adaround": 3 * forward,
        "brecq": 3.0 * network.multiply_adds * steps * options.get("batch", 16) + 3 * forward,
        "gptq": math.fsum(columns**3 * 2 / 3 for _, columns in layers),
    }
    rows = {
        "adaround": steps
        * math.fsum(
            out * columns * (ROUNDING[0] * columns + ROUNDING[1]) for out, columns in layers
        ),
        "obc": slowdown * math.fsum(out * columns**3 / 3 for out, columns in layers),
        "gptq": slowdown * math.fsum(out * columns**2 / 2 for out, columns in layers),
    }
    columns = sum(columns for _, columns in layers)
    work = SLOWDOWN["search"] * 80.0 * sum(out * columns for out, columns in layers)
    work += slowdown * once.get(name, 0.0) + COLUMN.get(name, 0.0) * columns
    grids = 2 if options.get("grid") == "output" else 1
    work += grids * rows.get(name, 0.0)
    sweeps = options.get("polish", 0)
    if grids == 2:
        work += (
            GRIDS
            * SLOWDOWN["polish"]
            * math.fsum(1.5 * out * columns**2 for out, columns in layers)
        )
        work += SEARCHES * COLUMN["polish"] * columns
        work += (
            3 * len(layers) * forward if name == "brecq" else 0.0
        )  # the statistics of each layer
    work += sweeps * COLUMN["polish"] * columns
    work += (
        sweeps * SLOWDOWN["polish"] * math.fsum(1.5 * out * columns**2 for out, columns in layers)
    )
    work += (
        options.get("exchange", 0)
        * SLOWDOWN["exchange"]
        * sum(out * columns**2 for out, columns in layers)
    )
    inputs = options.get("inputs", "full_precision")
    looks = name in ("obc", "gptq") or (name == "rtn" and sweeps > 0)
    if looks and not (shared and inputs == "full_precision"):
        work += PASS[inputs] * forward
    if options.get("activations") is not None:
        work += forward
    if (
        options.get("reestimate", "none") != "none" and inputs == "full_precision"
    ):  # on the way of the walk if not
        seen = min(images, options["reestimate_images"] or images)
        work += (4 if options["reestimate"] == "relative" else 3) * forward * seen / images
    return work
