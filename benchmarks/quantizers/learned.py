"""AdaRound and BRECQ against the published mini-batch loops."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from benchmarks.quantizers.accuracy import judged
from benchmarks.quantizers.jobs import Job, timed
from benchmarks.quantizers.loops import CHUNK, inputs_of, outputs_of, with_weights
from benchmarks.quantizers.methods import EXCHANGES, SWEEPS
from benchmarks.quantizers.networks import Bench
from benchmarks.quantizers.published import rounded_by_batches
from torch import Tensor, nn

from bitleak.core.seeds import seed_for
from bitleak.quantizers.adaround import AdaRound, adapt_layer
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.grid import Grid, search_grid, to_codes, to_weights
from bitleak.quantizers.layers.quadratic import Quadratic, quadratic
from bitleak.quantizers.network.norm_folding import fold
from bitleak.quantizers.network.reconstruction_units import units

LAYER = "stage2.0.conv2"
STEPS = (250, 500, 1000, 2000, 4000)  # of AdaRound, besides its presets
SLOPE = (20, 60)  # iterations between which a unit's time per iteration is measured


@dataclass(frozen=True)
class Problem:
    """One layer's rounding problem.

    Attributes:
        layer: Layer with the full-precision weight.
        grid: Grid of its weight.
        inputs: Full-precision inputs.
        behind: Inputs after the layers quantized before it.
        targets: Full-precision outputs.
    """

    layer: nn.Conv2d
    grid: Grid
    inputs: Tensor
    behind: Tensor
    targets: Tensor

    def statistics(self) -> Quadratic:
        """Return the statistics that AdaRound keeps of the images."""
        pairs = zip(self.inputs.split(CHUNK), self.behind.split(CHUNK), strict=True)
        return quadratic(LAYER, self.layer, pairs)


def adaround_jobs(bench: Bench, seeds: list[int], levels: list[int]) -> Iterator[Job]:
    """Return, per levels and seed, one job for the package and one for the full loop."""
    for seed in seeds:
        for count in levels:
            yield Job("adaround", f"package@{count}", seed, _adaround_ours(bench, seed, count))
            yield Job("adaround", f"loop@{count}", seed, _adaround_loop(bench, seed, count))


def _problem(bench: Bench, seed: int, levels: int) -> Problem:
    """Return the problem of a layer after layers quantized by AdaRound on the grids of the weights."""
    network, calibration = bench.network(seed), bench.calibration(seed)
    settings = AdaRound(levels=levels, grid="zero")
    quantized = deployed(network, settings(network, calibration, torch.Generator()))
    inputs, behind = (inputs_of(source, LAYER, calibration) for source in (network, quantized))
    layer = network.get_submodule(LAYER)
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        targets = torch.cat([layer(chunk) for chunk in inputs.split(CHUNK)])
    return Problem(layer, search_grid(layer.weight, levels), inputs, behind, targets)


def _adaround_ours(bench: Bench, seed: int, levels: int) -> Any:
    def run() -> dict[str, Any]:
        problem = _problem(bench, seed, levels)
        weight = problem.layer.weight.detach()
        with torch.no_grad():
            loss, statistics = timed(problem.statistics)
        figures = {
            "nearest": {
                "error": _error(loss, to_codes(weight, problem.grid), problem.grid, weight),
                "cpu_seconds": 0.0,
            }
        }
        default = AdaRound(levels=levels)
        schemes = {
            f"{steps} steps": replace(default, iterations=steps, grid="zero") for steps in STEPS
        }
        schemes |= {
            f"{name}, polish": replace(scheme, polish=SWEEPS) for name, scheme in schemes.items()
        }
        schemes["quick"] = AdaRound(**{**AdaRound.PRESETS["quick"], "levels": levels})
        for words, grid in (("default", "output"), ("grid of the weights", "zero")):
            schemes[words] = replace(default, grid=grid)
            schemes[f"{words}, polish"] = replace(schemes[words], polish=SWEEPS)
            schemes[f"{words}, polish and exchange"] = replace(
                schemes[words], polish=SWEEPS, exchange=EXCHANGES
            )
        for name, settings in schemes.items():
            (codes, grid, _), seconds = timed(
                lambda settings=settings: adapt_layer(settings, weight, problem.grid, loss)
            )
            figures[name] = {
                "error": _error(loss, codes, grid, weight),
                "cpu_seconds": statistics + seconds,
            }
        return {"statistics_cpu_seconds": statistics, "found": figures}

    return run


def _error(loss: Quadratic, codes: Tensor, grid: Grid, weight: Tensor) -> float:
    """Return the relative squared error of the layer's output over all calibration images."""
    return loss.relative((to_weights(codes, grid) - weight).flatten(1), weight.flatten(1))


def _adaround_loop(bench: Bench, seed: int, levels: int) -> Any:
    def run() -> dict[str, Any]:
        problem = _problem(bench, seed, levels)

        def call(weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
            return problem.layer._conv_forward(inputs, weights[LAYER], None)

        def loop(iterations: int) -> Tensor:
            return rounded_by_batches(
                call,
                {LAYER: problem.layer.weight.detach()},
                {LAYER: problem.grid},
                problem.behind,
                problem.targets,
                iterations=iterations,
                regularization=0.001,
                generator=torch.Generator().manual_seed(seed_for(seed, "loop")),
            )[LAYER]

        per_step = _slope(loop, SLOPE)
        codes, seconds = timed(lambda: loop(bench.sizes.loop))
        with torch.no_grad():
            error = _error(problem.statistics(), codes, problem.grid, problem.layer.weight.detach())
        return {
            "iterations": bench.sizes.loop,
            "cpu_seconds": seconds,
            "cpu_seconds_per_step": per_step,
            "error": error,
        }

    return run


def _slope(loop: Any, counts: Sequence[int]) -> float:
    """Return CPU seconds per iteration, from runs of two lengths after a short warm-up."""
    loop(2)
    few, many = (timed(lambda count=count: loop(count))[1] for count in counts)
    return (many - few) / (counts[1] - counts[0])


def brecq_jobs(bench: Bench, seeds: list[int], levels: list[int], full: bool) -> Iterator[Job]:
    """Return, per seed, jobs for the loop's time by its slope and for the package; on request,
    preset `paper` in full.
    """
    for seed in seeds:
        for count in levels:
            yield Job("brecq", f"slope@{count}", seed, _brecq_slope(bench, seed, count))
            if full:
                yield Job(
                    "brecq",
                    f"paper-{bench.sizes.loop}@{count}",
                    seed,
                    _brecq_full(bench, seed, count),
                )


def _brecq_slope(bench: Bench, seed: int, levels: int) -> Any:
    def run() -> dict[str, Any]:
        network, calibration = bench.network(seed), bench.calibration(seed)
        settings = BRECQ(levels=levels)
        chance = torch.Generator().manual_seed(seed_for(seed, "quantize"))
        _, before = timed(lambda: settings(network, calibration, chance))
        slopes = _unit_slopes(fold(network).requires_grad_(False), calibration, levels)
        _, after = timed(lambda: settings(network, calibration, chance))
        loop = bench.sizes.loop * sum(slopes.values())
        return {
            "ours_cpu_seconds": [before, after],
            "loop_cpu_seconds_per_step_by_unit": slopes,
            "loop_cpu_seconds": loop,
            "loop_iterations": bench.sizes.loop,
            "ratio": 2 * loop / (before + after),
        }

    return run


def _unit_slopes(network: nn.Module, calibration: Tensor, levels: int) -> dict[str, float]:
    """Return CPU seconds per iteration of the loop by unit; inputs are the full-precision ones,
    which take as long.
    """
    slopes, inputs = {}, calibration
    for unit in units(network):
        outputs = outputs_of(unit, inputs)
        if unit.layers:
            weights = {name: network.get_submodule(name).weight.detach() for name in unit.layers}
            grids = {name: search_grid(weight, levels) for name, weight in weights.items()}
            problem = (partial(with_weights, unit), weights, grids, inputs, outputs)

            def loop(steps: int, problem: Any = problem) -> Any:
                chance = torch.Generator().manual_seed(0)
                return rounded_by_batches(
                    *problem, iterations=steps, regularization=0.01, generator=chance
                )

            slopes[unit.name] = _slope(loop, SLOPE)
        inputs = outputs
    return slopes


def _brecq_full(bench: Bench, seed: int, levels: int) -> Any:
    def run() -> dict[str, Any]:
        network = bench.network(seed)
        settings = replace(
            BRECQ(**BRECQ.PRESETS["paper"]), levels=levels, iterations=bench.sizes.loop
        )
        chance = torch.Generator().manual_seed(seed_for(seed, "quantize"))
        quantized, seconds = timed(lambda: settings(network, bench.calibration(seed), chance))
        return {"cpu_seconds": seconds, **judged(bench, seed, deployed(network, quantized))}

    return run
