"""Accuracy of the networks after the published mini-batch loops, layer by layer and block by block.

The whole network by the loops of `published`, for as many iterations as the presets `paper` are
given in the table, from the same grids and the same images: the accuracy that those presets have to
reach.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from benchmarks.quantizers.accuracy import judged, most_codes
from benchmarks.quantizers.jobs import Job, timed
from benchmarks.quantizers.networks import Bench
from benchmarks.quantizers.published import rounded_by_batches
from torch import Tensor, nn
from torch.func import functional_call

from bitleak.core.seeds import seed_for
from bitleak.quantizers.grid import search_grid, to_weights
from bitleak.quantizers.network.norm_folding import fold
from bitleak.quantizers.network.reconstruction_units import Unit, units
from bitleak.quantizers.scheme import quantizable

CHUNK = 128  # images at a time
REGULARIZATION = {"adaround": 0.001, "brecq": 0.01}


def loop_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Yield one job per algorithm, levels and seed."""
    for seed in seeds:
        for count in levels:
            for kind, loop_over_network in (("adaround", _layers), ("brecq", _blocks)):
                run = partial(_run, bench, seed, count, kind, loop_over_network)
                yield Job("accuracy", f"{kind}-loop-{bench.sizes.short}@{count}", seed, run)


def _run(
    bench: Bench, seed: int, levels: int, kind: str, loop_over_network: Callable[..., nn.Module]
) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(seed_for(seed, "loop"))
    how = {
        "iterations": bench.sizes.short,
        "regularization": REGULARIZATION[kind],
        "generator": chance,
    }
    quantized, seconds = timed(
        lambda: loop_over_network(bench.network(seed), bench.calibration(seed), levels, how)
    )
    weights = [
        quantized.get_parameter(f"{name}.weight").detach().numpy()
        for name in quantizable(quantized)
    ]
    codes = max(most_codes(weight) for weight in weights)
    return {
        **judged(bench, seed, quantized),
        "levels": levels,
        "codes": codes,
        "cpu_seconds": seconds,
    }


def _layers(network: nn.Module, images: Tensor, levels: int, how: Mapping[str, Any]) -> nn.Module:
    """Run AdaRound: every layer on its linear output, with inputs through the layers quantized
    before it.
    """
    quantized = copy.deepcopy(network)
    for name, layer in quantizable(network).items():
        full_inputs = inputs_of(network, name, images)
        behind = inputs_of(quantized, name, images)
        with torch.no_grad():
            targets = torch.cat([layer(chunk) for chunk in full_inputs.split(CHUNK)])

        def call(
            weights: Mapping[str, Tensor],
            inputs: Tensor,
            name: str = name,
            layer: nn.Module = layer,
        ) -> Tensor:
            return functional_call(layer, {"weight": weights[name]}, (inputs,))

        _round(call, quantized, (name,), behind, targets, levels, how)
    return quantized


def _blocks(network: nn.Module, images: Tensor, levels: int, how: Mapping[str, Any]) -> nn.Module:
    """Run BRECQ: batch norm folded, every block on its output, with inputs through the blocks
    quantized before it.
    """
    quantized = fold(network).requires_grad_(False)
    full_inputs = behind = images
    for unit in units(quantized):
        full_inputs = outputs_of(unit, full_inputs)
        if unit.layers:
            _round(
                partial(with_weights, unit),
                quantized,
                unit.layers,
                behind,
                full_inputs,
                levels,
                how,
            )
        behind = outputs_of(unit, behind)
    return quantized


def with_weights(unit: Unit, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return a unit's outputs for these inputs with other weights of its layers, by name."""
    changed = {f"{name}.weight": weight for name, weight in weights.items()}
    return functional_call(unit.run, changed, (inputs,))


@torch.no_grad()
def outputs_of(unit: Unit, inputs: Tensor) -> Tensor:
    """Return a unit's outputs for all inputs, which are not changed."""
    return torch.cat([unit.run(chunk.clone()) for chunk in inputs.split(CHUNK)])


def _round(
    call: Callable[[Mapping[str, Tensor], Tensor], Tensor],
    network: nn.Module,
    names: tuple[str, ...],
    inputs: Tensor,
    targets: Tensor,
    levels: int,
    how: Mapping[str, Any],
) -> None:
    """Round the layers' weights to their grids, as the loop does."""
    weights = {name: network.get_parameter(f"{name}.weight").detach().clone() for name in names}
    grids = {name: search_grid(weight, levels, style="paper") for name, weight in weights.items()}
    codes = rounded_by_batches(call, weights, grids, inputs, targets, **how)
    with torch.no_grad():
        for name in names:
            network.get_parameter(f"{name}.weight").copy_(to_weights(codes[name], grids[name]))


@torch.no_grad()
def inputs_of(network: nn.Module, name: str, images: Tensor) -> Tensor:
    """Return a layer's inputs for all images."""
    taken: list[Tensor] = []
    layer = network.get_submodule(name)
    handle = layer.register_forward_pre_hook(
        lambda module, arguments: taken.append(arguments[0].clone())
    )
    for chunk in images.split(CHUNK):
        network(chunk)
    handle.remove()
    return torch.cat(taken)
