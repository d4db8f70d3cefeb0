"""Numbers of records, models and weights, on which the cost of every step depends."""

from dataclasses import dataclass

from bitleak.core.spill import LARGE
from bitleak.core.types import SIGNALS


@dataclass(frozen=True)
class NetworkSize:
    """Size of a network on the images of a data set.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Multiply-adds per image, forward.
        layers: Output channels and columns (input channels per group times kernel area) of every quantizable layer.
        made_by: Distribution and version of the code that makes it; empty for this package's own and for local code.
    """

    parameters: int
    multiply_adds: int
    layers: tuple[tuple[int, int], ...]
    made_by: str = ""


@dataclass(frozen=True)
class Scale:
    """Numbers that the expected seconds and bytes of a task are computed from.

    Attributes:
        images: Images of the data set, undecoded.
        pixels: Values of an image, channels times height times width, or of a row of a table.
        pool: Records that models are trained on, or candidates in their place.
        members: Members of each model.
        calibration: Held-out records for calibration.
        population: Held-out records for the adversary.
        test: Held-out records for the accuracy.
        models: Models in the membership matrix.
        targets: Models that are attacked.
        references: Models that serve as references.
        queries: Augmented images per record.
        attacks: Attacks that are run, all forms counted.
        classes: Classes of the data set.
        network: Size of the network.
        rate: Multiply-adds per second of a forward pass.
        value_bytes: Bytes of one value of a record: 1 for pixels, 4 for the float32 columns of a table.
        canaries: Mislabelled records, which models are trained on beside those of `pool`.
    """

    images: int
    pixels: int
    pool: int
    members: int
    calibration: int
    population: int
    test: int
    models: int
    targets: int
    references: int
    queries: int
    attacks: int
    classes: int
    network: NetworkSize
    rate: float
    value_bytes: int = 1
    canaries: int = 0

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all decoded images."""
        records = self.pool + self.canaries + self.calibration + self.population + self.test
        return self.value_bytes * self.pixels * records

    @property
    def trained_records(self) -> int:
        """Records that a model is trained on: its members, and half of the canaries."""
        return self.members + self.canaries // 2

    @property
    def weight_bytes(self) -> int:
        """Bytes of one model's weights in float32."""
        return 4 * self.network.parameters

    @property
    def answer_bytes(self) -> int:
        """Bytes of one model's signals about the pool and the population."""
        return 8 * len(SIGNALS) * self.queries * (self.pool + self.population)

    @property
    def logit_bytes(self) -> int:
        """Bytes of one model's logits about the pool and the population, in float32."""
        return 4 * self.classes * self.queries * (self.pool + self.population)

    @property
    def stack_bytes(self) -> int:
        """Memory of a step that stacks the signals of all references: two copies, unless they go into a file."""
        masks_and_sums = self.pool * (6 * self.references + 16 * self.targets + 400)
        return 2 * min(self.references * self.answer_bytes, LARGE) + masks_and_sums

    @property
    def attack_seconds(self) -> float:
        """Seconds of one attack on all targets."""
        return 4e-8 * self.targets * self.references * self.pool * self.queries

    def scaling_seconds(self, answer_scale: str) -> float:
        """Seconds to bring one model's answers to a scale."""
        answers = self.queries * (self.pool + self.population)
        return {"raw": 0.0, "standardised": 3e-8, "temperature": 2e-7 * self.classes}[
            answer_scale
        ] * answers

    def scaled_bytes(self, answer_scale: str) -> int:
        """Memory of all answers on a scale; large ones go into a file."""
        return 0 if answer_scale == "raw" else min(self.models * self.answer_bytes, LARGE)

    @property
    def measure_seconds(self) -> float:
        """Seconds of the metrics of all targets."""
        return 2e-5 * self.targets * self.pool
