"""BRECQ: round the weights of each block so that the block's output changes least.

Batch norm is folded into the layers first. Then, unit after unit (a residual block up to its
addition and ReLU; the stem and the classifier alone: see `reconstruction_units`), the rounding of
all the unit's weights is learnt jointly, to minimise

    mean over records and positions of sum over channels (unit(x_q; W_q) - unit(x; W))^2
        + lambda * sum(1 - |2 h(V) - 1|^beta)

where x are the unit's inputs in the full-precision network and x_q those after the quantized units.
`reconstruct` holds the loop. Source: Li et al. 2021 (arXiv 2102.05426), algorithm 1. With
`weighting="fisher"` each element of the squared error is weighted by the diagonal of the Fisher
information, as in the paper's equation 10 (see `fisher`); by default by 1, as in the published
code's default.

Deviations: the units come from the traced graph. One pass carries both kinds of activations
forward, so a unit's inputs and outputs are computed once. The defaults take a larger rate, a
shorter memory of Adam, a fortieth of the steps of preset `paper` and half of its batch;
`reconstruct` lists the rest.

With `grid="output"`, each layer's grid is the one that suits its own output (see `output_grid`),
after the codes that a descent gives the layers before it.

None of these options is the default. With 1,024 images and 3 levels on a small residual network for
CIFAR-10, the Fisher weighting left the accuracy as it was and moved the predictions on other images
further away (divergence 0.067 instead of 0.049). Starting at codes helps short runs (100
iterations: 0.057 instead of 0.070), but takes the time of a few hundred iterations.

Misleading where a network has no residual blocks: its units are then single layers, and the result
is that of layer-wise rounding under another name.

Several precisions (`at_levels`) share a walk, and the steps of all are made together if maps are
small (see `rounding_loop`). The results are the same bits.

Memory: a batch's way through a unit forward and backward; the unit's inputs and outputs for all
calibration records lie in scratch files where they exceed the budget. Cost per unit: iterations *
(forward + backward of a batch), and three or four forward passes over the calibration set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.checks import one_of
from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import QuantizedLayers
from bitleak.quantizers.grid import Grid, grid_for
from bitleak.quantizers.network.activations import (
    Activations,
    InMemoryActivations,
    image_activations,
    map_budget,
)
from bitleak.quantizers.network.fisher import fisher
from bitleak.quantizers.network.layer_inputs import OnLayer, layer_order
from bitleak.quantizers.network.norm_folding import check_folded, check_norms, fold
from bitleak.quantizers.network.plain_copy import plain_arithmetic, plain_copy
from bitleak.quantizers.network.reconstruction import (
    PieceCopy,
    ReconstructedPiece,
    mean_loss,
    output_energy,
    outputs_of,
    reconstruct,
    run,
)
from bitleak.quantizers.network.reconstruction_units import ONE_TENSOR, Unit, units
from bitleak.quantizers.network.rounding_relaxation import RoundingSchedule
from bitleak.quantizers.network.starting_codes import starting_codes
from bitleak.quantizers.scheme import Scheme, check_finite, layer_levels, quantizable

# Maps of all records at a time, at most: a unit's inputs and outputs, next inputs, the weighting.
UNIT_MAPS = 4
COPY_MAPS = 2  # more for each further number of levels: inputs and outputs


@dataclass(frozen=True, kw_only=True)
class BRECQ(Scheme):
    """Block reconstruction with learnt rounding.

    Attributes:
        iterations: Steps per unit.
        batch: Records per step.
        learning_rate: Adam's rate on V.
        decay: Adam's decay rates of the mean gradient and of the mean square, each in [0, 1).
        regularization: lambda.
        warmup: Part of the iterations without the regulariser, 0 to 1.
        beta_start: The regulariser's exponent after the warm-up.
        beta_end: The regulariser's exponent at the end.
        weighting: Weights in the squared error: `plain` for none, or the prediction's `fisher`
            information.
        start: Whether V starts at the `weights` themselves, or at codes found for each layer alone
            by `adaround` or `polish` (see `starting_codes`).

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> images = torch.randn(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> quantized = BRECQ(levels=3, iterations=5)(network, images, torch.Generator().manual_seed(0))
        >>> sorted(quantized.layers)
        ['0', '4']
        >>> BRECQ(batch=0)
        Traceback (most recent call last):
        ...
        ValueError: batch must be an integer of at least 1, got 0
    """

    iterations: int = 500
    batch: int = 16
    learning_rate: float = 0.2
    decay: tuple[float, float] = (0.5, 0.9)
    regularization: float = 0.01
    warmup: float = 0.2
    beta_start: float = 20.0
    beta_end: float = 2.0
    weighting: Literal["plain", "fisher"] = "plain"
    start: Literal["weights", "adaround", "polish"] = "weights"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "iterations": 20000,
            "batch": 32,
            "learning_rate": 1e-3,
            "decay": (0.9, 0.999),
            "grid": "paper",
        },
        "quick": {"iterations": 100, "learning_rate": 0.4, "batch": 16},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._schedule()
        one_of("weighting", self.weighting, ("plain", "fisher"))
        one_of("start", self.start, ("weights", "adaround", "polish"))

    def _schedule(self) -> RoundingSchedule:
        shared = {field.name: getattr(self, field.name) for field in fields(RoundingSchedule)}
        return RoundingSchedule(**shared)

    def __call__(
        self,
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generator: torch.Generator,
        *,
        on_layer: OnLayer | None = None,
        memory: int | None = None,
    ) -> QuantizedWeights:
        """Quantize the network.

        Args:
            network: A network that `torch.fx` traces and that calls each layer once; it is not
                changed.
            calibration: Normalised images.
            generator: Draws the mini-batches, and the signs of the Fisher information's estimate.
            on_layer: Called after each layer once its unit is done.
            memory: Bytes that the maps of all images may take, see `activations.map_budget`; it
                changes no value.

        Returns:
            Codes of the folded weights; `rest` holds the batch norms as folding left them. `record`
            has the losses of a layer's unit, and `kept`, which is `nearest` where rounding to the
            nearest was not improved on.

        Raises:
            QuantizationError: The network cannot be traced or cut into units, or a weight or a
                calibration value is not finite.
        """
        options: dict[str, Any] = {"on_layer": on_layer, "memory": memory}
        (quantized,) = self.at_levels([self.levels], network, calibration, [generator], **options)
        return quantized

    def at_levels(
        self,
        levels: Sequence[int],
        network: nn.Module,
        calibration: Float[Tensor, "records *sample"],
        generators: Sequence[torch.Generator],
        *,
        on_layer: OnLayer | None = None,
        memory: int | None = None,
    ) -> list[QuantizedWeights]:
        """Quantize the network at several levels in one pass, each as `__call__` does, bit for bit.

        Args:
            levels: In the place of the field.
            network: As in `__call__`.
            calibration: As in `__call__`.
            generators: One for each of the levels.
            on_layer: Called after each layer at each of the levels.
            memory: As in `__call__`.
        """
        schemes = [replace(self, levels=one) for one in levels]
        with plain_arithmetic():
            copied = plain_copy([self], network, calibration)
            walk = _Walk(schemes, copied.network, copied.images, memory)
            results = walk.quantized(generators, on_layer)
            return [copied.result(result) for result in results]


class _Walk:
    """One pass through the units of a network, for several numbers of levels.

    Attributes:
        schemes: The quantizer at each of the levels.
        network: The folded network.
        units: Its units.
        levels: Levels of each layer, by scheme.
        images: The calibration images.
        share: Bytes that a map of all images may take in memory.
    """

    def __init__(
        self, schemes: Sequence[BRECQ], network: nn.Module, images: Tensor, memory: int | None
    ) -> None:
        # Refusals first: nothing later fails for the network's make once the first unit is learnt.
        self.schemes, self.images = schemes, images.detach()
        names = list(quantizable(network, schemes[0]))
        check_norms(network, schemes[0])
        self.network = fold(network, self.images, schemes[0]).requires_grad_(False)
        self.units = units(self.network, schemes[0])
        _check(self.network, self.units, self.images)
        check_folded(network, self.network, self.images)
        order = layer_order(self.network, names, self.images)
        self.levels = [layer_levels(scheme, order) for scheme in schemes]
        maps = UNIT_MAPS + COPY_MAPS * (len(schemes) - 1)
        self.share = map_budget(self.images, memory, maps=maps)

    def quantized(
        self, generators: Sequence[torch.Generator], on_layer: OnLayer | None
    ) -> list[QuantizedWeights]:
        """Return the result at each of the levels."""
        # `full` and `inputs` are the inputs of the next unit in the full-precision network and in
        # the quantized ones; `before` is `full` one unit earlier, which only a fit of single layers
        # needs.
        results = [QuantizedLayers() for _ in self.schemes]
        full: Activations = image_activations(self.images)
        inputs = [full] * len(self.schemes)
        before = full
        fitted = self.schemes[0].start != "weights" or self.schemes[0].grid == "output"
        for index, unit in enumerate(self.units):
            before = full if unit.layers and fitted else before
            full = outputs_of(unit.run, full, memory=self.share)
            if not unit.layers:
                inputs = [outputs_of(unit.run, one, memory=self.share) for one in inputs]
                continue
            for chunk in full.chunks():
                check_finite(unit.layers[0], chunk, "output on the calibration images")

            copies: list[PieceCopy] = []
            for number, generator in enumerate(generators):
                importance = None
                if self.schemes[0].weighting == "fisher":
                    rest = self.units[index + 1 :]
                    importance = fisher(rest, full, generator, memory=self.share)
                copy = PieceCopy(self._grids(unit, number), inputs[number], generator, importance)
                copies.append(self._fitted(unit, copy, before) if fitted else copy)
            schedule = self.schemes[0]._schedule()
            pieces = reconstruct(unit.run, copies, full, schedule=schedule, memory=self.share)
            inputs = [piece.outputs for piece in pieces]
            for number, (copy, piece) in enumerate(zip(copies, pieces, strict=True)):
                facts = _record(unit, piece, full)
                order = list(self.levels[number])
                for name in unit.layers:
                    results[number].add(name, piece.codes[name], copy.grids[name], facts)
                    if on_layer is not None:
                        on_layer(name, order.index(name), len(order))
        return [
            result.assembled(self.network, scheme, self.images)
            for result, scheme in zip(results, self.schemes, strict=True)
        ]

    def _grids(self, unit: Unit, number: int) -> dict[str, Grid]:
        """Return the grids of a unit's layers at one of the levels."""
        grids: dict[str, Grid] = {}
        for name in unit.layers:
            weight = self.network.get_parameter(f"{name}.weight")
            grids[name] = grid_for(self.schemes[number], weight, self.levels[number][name])
        return grids

    def _fitted(self, unit: Unit, copy: PieceCopy, before: Activations) -> PieceCopy:
        """Return the copy on the grids, and with the codes, of layers that are fitted alone."""
        scheme = self.schemes[0]
        by: Literal["adaround", "polish"] = "adaround" if scheme.start == "adaround" else "polish"
        start, grids = starting_codes(scheme, unit.run, copy.grids, before, copy.inputs, by=by)
        return replace(copy, grids=grids, start=None if scheme.start == "weights" else start)


def _record(unit: Unit, result: ReconstructedPiece, targets: Activations) -> dict[str, Any]:
    """Return a unit's facts for the record of its layers; the relative error is unweighted."""
    energy = max(output_energy(targets), torch.finfo(torch.float32).tiny)
    return {
        "unit": unit.name,
        "kept": result.choice,
        "loss": result.loss,
        "loss_nearest": result.nearest,
        "relative_error": mean_loss(result.outputs.chunks(), targets) / energy,
    }


def _check(network: nn.Module, pieces: Sequence[Unit], images: Tensor) -> None:
    """Refuse values that are not finite, and a network that does more than its graph shows."""
    if not len(images):
        raise QuantizationError("the calibration set is empty; at least one image is needed")
    first_layers = next(unit.layers for unit in pieces if unit.layers)
    check_finite(first_layers[0], images, "calibration input")

    # The units one after the other have to give the network's outputs.
    leading_images = images[:4]
    with torch.no_grad():
        expected = network(leading_images.clone())
    if not isinstance(expected, Tensor):
        raise QuantizationError(f"{ONE_TENSOR}, got {type(expected).__name__}")
    outputs = leading_images
    for unit in pieces:
        (outputs,) = run(unit.run, InMemoryActivations(outputs))
        for name in unit.layers[:1]:
            check_finite(name, outputs, "output on the calibration images")
    if not torch.allclose(outputs, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        raise QuantizationError(
            "the network's traced graph gives other outputs than the network itself; its forward pass has an effect "
            "that torch.fx does not see, such as an in-place call whose result is not used"
        )
