"""Logits and accuracy of networks of many kinds after every quantizer, as a Markdown table.

    python benchmarks/architectures.py [--seeds 3] [--steps 150] [--images 128] [NETWORK ...]

The networks are those of `tests/quantizers/architectures.py`, trained for some steps on the digits
of scikit-learn in random colours, 1,200 records. Each is quantized with its first images as
calibration data, by the presets `quick`. A cell holds the relative squared error of the logits on
the calibration images, and the accuracy on the other 597 records in percent; both are means over
the seeds, which differ in initialisation and batches.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.quantizers.scheme import Scheme, quantizable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "quantizers"))
from architectures import NETWORKS, coloured_digits, trained

METHODS: dict[str, Scheme] = {
    "rtn": RoundToNearest(),
    "adaround": AdaRound(**AdaRound.PRESETS["quick"]),
    "brecq": BRECQ(**BRECQ.PRESETS["quick"]),
    "obc": OBC(**OBC.PRESETS["quick"]),
    "obc, quantized inputs": OBC(**OBC.PRESETS["quick"], inputs="quantized"),
    "gptq": GPTQ(),
}
LEVELS = (4, 3)
RECORDS = 1200

Cell = tuple[float, float]
"""Relative squared error of the logits, and accuracy."""


def cells(
    network: nn.Module, images: Tensor, labels: Tensor, calibration: int
) -> dict[tuple[str, int], Cell | None]:
    """Return the cells of one network by method and levels; None if the method refuses it."""
    by_method: dict[tuple[str, int], Cell | None] = {}
    for levels in LEVELS:
        for name, method in METHODS.items():
            quantizer = replace(method, levels=levels)
            try:
                quantized = quantizer(
                    network, images[:calibration], torch.Generator().manual_seed(0)
                )
            except QuantizationError:
                by_method[name, levels] = None
                continue
            by_method[name, levels] = _cell(
                network, deployed(network, quantized), images, labels, calibration
            )
    return by_method


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the accuracy on the records that were not trained on."""
    with torch.no_grad():
        return float((network(images[RECORDS:]).argmax(1) == labels[RECORDS:]).double().mean())


@torch.no_grad()
def _cell(
    network: nn.Module, changed: nn.Module, images: Tensor, labels: Tensor, calibration: int
) -> Cell:
    expected = network(images[:calibration])
    error = (changed(images[:calibration]) - expected).square().sum() / expected.square().sum()
    return float(error), accuracy(changed, images, labels)


def _mean(cells_of_seeds: list[Cell | None]) -> str:
    measured = [cell for cell in cells_of_seeds if cell is not None]
    if not measured:
        return "refused"
    error, share = (sum(part) / len(measured) for part in zip(*measured, strict=True))
    return f"{error:.2g}, {100 * share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []], metavar="NETWORK")
    for option, default in (("seeds", 3), ("steps", 150), ("images", 128)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    images, labels = coloured_digits()
    start = time.process_time()
    print(f"| network | layers, weights | accuracy | levels | {' | '.join(METHODS)} |")
    print("|" + "---|" * (4 + len(METHODS)))
    for name in options.names or NETWORKS:
        networks = [
            trained(name, images[:RECORDS], labels[:RECORDS], steps=options.steps, seed=i)
            for i in range(options.seeds)
        ]
        share = sum(accuracy(network, images, labels) for network in networks) / len(networks)
        results = [cells(network, images, labels, options.images) for network in networks]
        layers = quantizable(networks[0])
        size = f"{len(layers)}, {sum(layer.weight.numel() for layer in layers.values()):,}"
        for levels in LEVELS:
            row = [_mean([result[method, levels] for result in results]) for method in METHODS]
            print(
                f"| {name} | {size} | {100 * share:.1f} | {levels} | {' | '.join(row)} |",
                flush=True,
            )
    print(f"\n{time.process_time() - start:.0f} CPU seconds")


if __name__ == "__main__":
    main()
