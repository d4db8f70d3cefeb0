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
shorter memory of Adam and a fortieth of the steps of preset `paper`; `reconstruct` lists the rest.

With `grid="output"`, each layer's grid is the one that suits its own output (see `output_grid`),
after the codes that a descent gives the layers before it.

None of these options is the default. With 1,024 images and 3 levels on a small residual network for
CIFAR-10, the Fisher weighting left the accuracy as it was and moved the predictions on other images
further away (divergence 0.067 instead of 0.049). Starting at codes helps short runs (100
iterations: 0.057 instead of 0.070), but takes the time of a few hundred iterations.

Misleading where a network has no residual blocks: its units are then single layers, and the result
is that of layer-wise rounding under another name.

Memory: a batch's way through a unit forward and backward; the unit's inputs and outputs for all
calibration records lie in scratch files where they exceed the budget. Cost per unit: iterations *
(forward + backward of a batch), and three or four forward passes over the calibration set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitleak.core.checks import one_of
from bitleak.core.errors import QuantizationError
from bitleak.core.types import QuantizedWeights
from bitleak.quantizers.assembly import assemble_weights
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
from bitleak.quantizers.network.plain_copy import on_plain_copy
from bitleak.quantizers.network.reconstruction import (
    ReconstructedPiece,
    mean_loss,
    output_energy,
    outputs_of,
    reconstruct,
    run,
)
from bitleak.quantizers.network.reconstruction_units import Unit, units
from bitleak.quantizers.network.rounding_relaxation import RoundingSchedule
from bitleak.quantizers.network.starting_codes import starting_codes
from bitleak.quantizers.scheme import Scheme, check_finite, layer_levels, quantizable

# Maps of all records at a time, at most: a unit's inputs and outputs, next inputs, the weighting.
UNIT_MAPS = 4


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
    batch: int = 32
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

    @on_plain_copy
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
        # Refusals first: nothing below fails for the network's make once the first unit is learnt.
        images = calibration.detach()
        names = list(quantizable(network, self))
        check_norms(network, self)
        folded = fold(network, images, self).requires_grad_(False)
        pieces = units(folded, self)
        _check(folded, pieces, images)
        check_folded(network, folded, images)
        levels = layer_levels(self, layer_order(folded, names, images))

        # `full` and `quantized` are the inputs of the next unit in either network; `before` is
        # `full` one unit earlier, which only a fit of single layers needs.
        codes: dict[str, Tensor] = {}
        grids: dict[str, Grid] = {}
        record: dict[str, dict[str, Any]] = {}
        share = map_budget(images, memory, maps=UNIT_MAPS)
        full: Activations = image_activations(images)
        quantized = before = full
        # Whether each layer is fitted for itself, before the unit.
        fitted = self.start != "weights" or self.grid == "output"
        for index, unit in enumerate(pieces):
            before = full if unit.layers and fitted else before
            full = outputs_of(unit.run, full, memory=share)
            if not unit.layers:
                quantized = outputs_of(unit.run, quantized, memory=share)
                continue
            unit_grids: dict[str, Grid] = {}
            for name in unit.layers:
                unit_grids[name] = grid_for(
                    self, folded.get_parameter(f"{name}.weight"), levels[name]
                )
            for chunk in full.chunks():
                check_finite(unit.layers[0], chunk, "output on the calibration images")

            importance = None
            if self.weighting == "fisher":
                importance = fisher(pieces[index + 1 :], full, generator, memory=share)
            start = None
            if fitted:
                by: Literal["adaround", "polish"] = (
                    "adaround" if self.start == "adaround" else "polish"
                )
                start, unit_grids = starting_codes(
                    self, unit.run, unit_grids, before, quantized, by=by
                )

            result = reconstruct(
                unit.run,
                unit_grids,
                quantized,
                full,
                schedule=self._schedule(),
                generator=generator,
                importance=importance,
                start=None if self.start == "weights" else start,
                memory=share,
            )
            quantized = result.outputs
            codes.update(result.codes)
            grids.update(unit_grids)
            facts = _record(unit, result, full)
            for name in unit.layers:
                record[name] = {"levels": levels[name], **facts}
                if on_layer is not None:
                    on_layer(name, list(levels).index(name), len(levels))
        return assemble_weights(folded, codes, grids, record, scheme=self, images=images)


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
