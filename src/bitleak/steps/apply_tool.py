"""Quantize one model by a tool of another kit: the result is a file, or float weights on a grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from bitleak import registry
from bitleak.config import CalibrationConfig
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, NetworkFile, Splits, Weights
from bitleak.engine.worker import Runtime
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress

EXPORT_SECONDS = 3.0
"""Seconds of exporting and opening a small network."""


@dataclass(frozen=True)
class ApplyTool:
    """Quantize one model by a tool.

    Attributes:
        model: Row of the membership matrix, or number of the calibration set.
        call: A name of the registry's `TOOLS`, or `package.module:function`.
        version: Version of the tool, raised by the config's author.
        made_by: Distributions and versions that decide the result.
        options: Options of the tool.
        runtime: Options of the runtime that answers its file.
        calibration: Images that the tool gets.
        seed: The audit's seed, from which the model's own follows.
    """

    model: int
    call: str
    version: str
    made_by: str
    options: Mapping[str, Any]
    runtime: Mapping[str, Any]
    calibration: CalibrationConfig
    seed: int

    STAGE: ClassVar[str] = "tool"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """The trained model, and the records that the tool may be calibrated on."""

        weights: Weights
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of an export and of three passes over the images."""
        images = self.calibration.records * self.calibration.rounds
        return EXPORT_SECONDS + 3.0 * scale.network.multiply_adds * images / scale.rate

    def bytes(self, scale: Scale) -> int:
        """Bytes of a file whose weights are floats."""
        return scale.weight_bytes + 20_000

    def memory(self, scale: Scale) -> int:
        """Memory of the images, of six copies of the weights, and of the calibration's activations."""
        shown = self.calibration.records * self.calibration.rounds
        return scale.decoded_bytes + 6 * scale.weight_bytes + 4 * 64 * scale.pixels * shown

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> NetworkFile | Weights:
        """Return the file with facts on its layers, or the weights.

        Raises:
            ModelError: This machine has other releases of the tool's kits than the plan.
            QuantizationError: As `apply_tool`.
        """
        # Imported here, since the import of a step loads no PyTorch.
        from bitleak.core.leftovers import temporary_folder
        from bitleak.models.fingerprint import with_fingerprint
        from bitleak.steps.networks import calibration_images, network_of, spec_of
        from bitleak.tools.tool_results import apply_tool
        from bitleak.tools.tool_versions import check_planned, check_runtime

        # The kits must be those of the plan, since their releases are part of the key.
        check_planned(self.call, self.made_by)
        # Calibration images as for every quantizer of this model.
        spec = spec_of(inputs.weights)
        images = calibration_images(
            inputs.images,
            inputs.splits,
            spec,
            self.calibration,
            model=self.model,
            seed=self.seed,
            device="cpu",
        )
        # The tool works in a folder of its own, which is removed afterwards.
        bare = self.call.partition("@")[0]
        with temporary_folder("bitleak-tool-") as folder:
            result = apply_tool(
                registry.resolve(registry.TOOLS, bare, kind="tool"),
                network_of(inputs.weights, runtime),
                images,
                folder,
                spec=spec,
                options=self.options,
                runtime=self.runtime,
                name=bare,
                seed=seed_for(self.seed, "tool", self.model),
                fresh=lambda weights: network_of(weights, runtime),
            )
        # A file stays a file; weights get a fingerprint of their answers.
        if isinstance(result, NetworkFile):
            check_runtime(self.call, self.made_by, result)
            return result
        return with_fingerprint(result, network_of(result, runtime))
