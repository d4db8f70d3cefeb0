"""The plain types that flow from a data set to a report.

```
Images -> Splits -> Weights -> QuantizedWeights -> Outputs -> [AttackView -> Scores] -> Measures -> Row
```

Axes are named by words: `records`, `models`, `refs` (reference models), `targets`, `queries` (one
per augmentation), `signals`, `classes`, `out` (output channels). Arrays are NumPy arrays; nothing
here imports torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int8, Int64, UInt8

from bitleak.core.variants import FULL

SIGNALS = (
    "log_probability",
    "logit_scaled",
    "hinge",
    "entropy",
    "modified_entropy",
    "correct",
)
"""The names of the last axis of `Outputs.signals`, in order.

With logits z and true class y, all in nats and float64: `log_probability` = log p_y <= 0;
`logit_scaled` = z_y - logsumexp(z_others), which is log p_y / (1 - p_y); `hinge` = z_y - max(z_others);
`entropy` = -sum p log p >= 0; `modified_entropy` as in Song and Mittal 2021 (arXiv 2003.10595), eq. 9;
`correct` = 1.0 where the true class has the (first) largest logit, else 0.0.
"""
LOG_PROBABILITY = SIGNALS.index("log_probability")
LOGIT_SCALED = SIGNALS.index("logit_scaled")
CORRECT = SIGNALS.index("correct")
"""Places of signals that more than one room reads."""


SignalName = Literal[
    "log_probability", "logit_scaled", "hinge", "entropy", "modified_entropy", "correct"
]
ReferenceKind = Literal["fp32", "matched", "recalibrated"]
SplitMode = Literal["population", "dedicated"]
Kept = Literal["signals", "logits"]

About = Literal["records", "trainings"]
"""Subject of an interval: `records`: these models on other records; `trainings`: models trained anew, on others."""


def input_shape(channels: int, size: int) -> tuple[int, ...]:
    """Return the shape of one record: of an image, or of a row of a table, whose size is 0.

    Example:
        >>> input_shape(3, 32), input_shape(600, 0)
        ((3, 32, 32), (600,))
    """
    return (channels, size, size) if size else (channels,)


@dataclass(frozen=True)
class Images:
    """A labelled data set, decoded, without any transform: images, or the rows of a table.

    A table is a data set whose channels are its columns and whose images have no size: everything that is said of
    a channel (mean, deviation, number) holds for a column.

    Attributes:
        pixels: 0 to 255; of a table, the finite numbers of its columns as they are.
        labels: Class indices from 0 to classes - 1.
        class_names: One name per class.
        held_out: True for the records of the source's own test part, which no model may train
            on; all False where the source has no such part.
        columns: Names of a table's columns; empty for images.
    """

    pixels: (
        UInt8[np.ndarray, "records channels height width"] | Float32[np.ndarray, "records channels"]
    )
    labels: Int64[np.ndarray, "records"]
    class_names: tuple[str, ...]
    held_out: Bool[np.ndarray, "records"]
    columns: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of an image, or columns of a table."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> int:
        """Height and width of an image in pixels; 0 for a table."""
        return 0 if self.pixels.ndim == 2 else int(self.pixels.shape[2])


@dataclass(frozen=True)
class Description:
    """Facts on a data set that need no decoding: enough to plan an audit.

    Attributes:
        records: Number of records, held-out ones included.
        held_out: How many of them belong to the source's own test part; 0 if it has none.
        classes: Number of classes.
        channels: 1 or 3; columns of a table.
        size: Height and width in pixels (images are square); 0 for a table.
        fingerprint: Changes when the content does; never depends on where the files lie.
        counts: Images per class, held-out ones included, as `(name, images)`.
        notes: How the source was read: its columns, labels that were renumbered, files that were left out.
        sorted_labels: Whether class indices are positions among sorted values, and not the stored integers.
    """

    records: int
    held_out: int
    classes: int
    channels: int
    size: int
    fingerprint: str
    counts: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    sorted_labels: bool = field(default=False, compare=False)

    @property
    def values(self) -> int:
        """Numbers that a record has: pixels times channels, or columns."""
        return math.prod(input_shape(self.channels, self.size))

    @property
    def kind(self) -> str:
        """Word for the records: `images`, or `rows` of a table."""
        return "images" if self.size else "rows"


@dataclass(frozen=True)
class Splits:
    """Who is in whose training set.

    Attributes:
        mode: `population` (complementary pairs: rows 2i and 2i + 1 are each other's complement) or
            `dedicated` (the first rows are targets on independent halves, the rest are shadows).
        pool: Indices into `Images` of the records that models train on, ascending. Columns of
            `member`, and the record axis of `Outputs.signals` and of `Scores`, are in this order.
        member: True where the model is trained on the pool record.
        targets: Rows of `member` that are attacked.
        calibration: Held-out records (indices into `Images`) for calibrating quantizers.
        population: Held-out records, an adversary's knowledge of the distribution.
        test: Held-out records for the accuracy.
    """

    mode: SplitMode
    pool: Int64[np.ndarray, "records"]
    member: Bool[np.ndarray, "models records"]
    targets: Int64[np.ndarray, "targets"]
    calibration: Int64[np.ndarray, "calibration"]
    population: Int64[np.ndarray, "population"]
    test: Int64[np.ndarray, "test"]


@dataclass(frozen=True)
class ModelSpec:
    """Which network: everything needed to build it again.

    Attributes:
        name: A name of the registry's `MODELS`.
        options: The builder's keyword arguments, JSON values only.
        classes: Number of classes.
        channels: Channels of an image, or columns of a table.
        size: Height and width of an image in pixels; 0 for a table.
        mean: Per-channel mean of the pool in [0, 1], subtracted from every input; of a table, in the column's units.
        std: Per-channel standard deviation of the pool, by which every input is divided.
    """

    name: str
    options: Mapping[str, Any]
    classes: int
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: `(channels, size, size)`, or `(columns,)`."""
        return input_shape(self.channels, self.size)


@dataclass(frozen=True)
class Weights:
    """A state dict with its architecture.

    Attributes:
        tensors: Arrays by the names of the network's `state_dict`.
        spec: The network they belong to; None for a network that did not come from a spec.
        fingerprint: Logits of a network from outside this package about fixed images, which the network that they
            are loaded into must answer with; None if there is nothing to compare (see `bitleak.models.fingerprint`).
        record: Facts on quantized weights: `activations`, the grids of layers' inputs; those of a tool's result
            (levels, layers in full precision, bytes). JSON values only.
    """

    tensors: Mapping[str, np.ndarray]
    spec: ModelSpec | None = None
    fingerprint: Float32[np.ndarray, "images classes"] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizedLayer:
    """One weight tensor on its grid: weight = scale * (codes - zero_point).

    Attributes:
        codes: 0 to levels - 1, in the shape of the weight.
        scale: Step of the grid per output channel (or one for the tensor), > 0.
        zero_point: Code of the weight 0, 0 to levels - 1; same shape as `scale`.
        levels: Number of grid points, 2 to 256.
    """

    codes: UInt8[np.ndarray, "out *rest"]
    scale: Float32[np.ndarray, "grids"]
    zero_point: Float32[np.ndarray, "grids"]
    levels: int

    def dequantize(self) -> Float32[np.ndarray, "out *rest"]:
        """Return the weight as float32, computed in float32."""
        shape = (-1, *[1] * (self.codes.ndim - 1))
        return self.scale.reshape(shape) * (
            self.codes.astype(np.float32) - self.zero_point.reshape(shape)
        )


@dataclass(frozen=True)
class QuantizedWeights:
    """Weights of which some are integer codes.

    Attributes:
        layers: Quantized layers by module name; the weight of layer `a.b` is the tensor `a.b.weight`.
        rest: All other tensors of the state dict, by name.
        spec: The network they belong to; None for a network that did not come from a spec.
        record: Facts per layer (relative error, damping, ...): JSON values only. A layer that keeps full
            precision by its name has no codes; its `levels` here are `fp32`.
        fingerprint: As of `Weights`.
    """

    layers: Mapping[str, QuantizedLayer]
    rest: Mapping[str, np.ndarray]
    spec: ModelSpec | None = None
    record: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fingerprint: Float32[np.ndarray, "images classes"] | None = None

    @property
    def full_precision(self) -> tuple[str, ...]:
        """The layers that keep full precision since the scheme names them."""
        return tuple(name for name, facts in self.record.items() if facts.get("levels") == FULL)

    @property
    def activations(self) -> dict[str, Mapping[str, Any]]:
        """Grids of layers' inputs by name (`scale`, `zero_point`, `levels`); empty if all stay float."""
        grids = {}
        for name, facts in self.record.items():
            if "activations" in facts:
                grids[name] = facts["activations"]
        return grids

    def dequantize(self) -> Weights:
        """Return the same network with float weights that lie on the grids, and the activations' grids."""
        tensors = {f"{name}.weight": layer.dequantize() for name, layer in self.layers.items()}
        activations = self.activations
        return Weights(
            tensors={**self.rest, **tensors},
            spec=self.spec,
            fingerprint=self.fingerprint,
            record={"activations": activations} if activations else {},
        )


CUT_SUMS = "8-bit integers, sums of two products cut to 16 bits"
"""The arithmetic of a file that answers otherwise on another processor, in the facts of its network."""


@dataclass(frozen=True)
class NetworkFile:
    """A network as the content of a file that a runtime executes.

    Attributes:
        content: The file's bytes, with the tensors that it kept in files of their own.
        runtime: A name of the registry's `RUNTIMES`.
        options: Options of the runtime: JSON values only.
        size: Bytes on the disk of the file and of the files of its tensors.
        digest: SHA-256 over these files, in hexadecimal digits.
        spec: Shape and standardisation of the images; its name and options are those of the network
            that the file was made from, if it is known.
        record: Facts on the file (levels, quantized activations, its tool): JSON values only.
    """

    content: UInt8[np.ndarray, "bytes"]
    runtime: str
    options: Mapping[str, Any]
    size: int
    digest: str
    spec: ModelSpec
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """The answers of one model on every record; all that attacks ever see of it.

    Attributes:
        signals: `SIGNALS` of the pool records under each augmentation; query 0 is the identity.
        population_signals: Signals of the population records.
        test_predictions: Predicted class of each test record, without augmentation.
        logits: Logits of the pool records, from which the signals follow; None if they are not kept.
        population_logits: Logits of the population records; None likewise.
    """

    signals: Float64[np.ndarray, "records queries signals"]
    population_signals: Float64[np.ndarray, "population queries signals"]
    test_predictions: Int64[np.ndarray, "test"]
    logits: Float32[np.ndarray, "records queries classes"] | None = None
    population_logits: Float32[np.ndarray, "population queries classes"] | None = None


IN, OUT, UNUSED = 1, -1, 0
"""Sides of a record that a reference can be on: trained on it, not trained on it, not to be used for it."""


@dataclass(frozen=True)
class AttackView:
    """Everything an attack may look at. Nothing in it depends on the target's membership, so no attack can peek.

    `attacks.attack_view` makes one. The rows of `references`, `side`, `split` and `population_references` are models.

    Attributes:
        target: The target's `SIGNALS` on the audited records.
        references: The reference models' signals on the same records; NaN where `side` is `UNUSED`. The last axis may
            end after the last signal that an attack reads of references.
        side: `IN` (1) if the reference was trained on the record, `OUT` (-1) if it was not, `UNUSED` (0) if it is
            hidden for this record. Every record has the same number of IN and of OUT references, the same for
            all records: the counts, and the membership of an unused reference, would betray the target.
        split: Number of the reference's training set: equal numbers are the same training set, opposite numbers are
            each other's complement, whether or not a record is hidden. The target's own training set and its
            complement are not among the references.
        population_target: The target's signals on records that no model was trained on.
        population_references: The references' signals on these.
        labels: True class of each audited record.
        moments: Sums over the references of each signal and side (`attacks.reference_sums.Sums`) if some
            references are predicted and the sums are not those of `references`; else None.
        shared: Sums that attacks have computed from the references, for others to use again. It is
            no part of the view: it starts empty, in every copy but `of_target`.
    """

    target: Float64[np.ndarray, "records queries signals"]
    references: Float64[np.ndarray, "refs records queries of_references"]
    side: Int8[np.ndarray, "refs records"]
    split: Int64[np.ndarray, "refs"]
    population_target: Float64[np.ndarray, "population queries signals"]
    population_references: Float64[np.ndarray, "refs population queries of_references"]
    labels: Int64[np.ndarray, "records"]
    moments: Mapping[tuple[str, str], Any] | None = None
    shared: dict[tuple[str, ...], Any] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def member(self) -> Bool[np.ndarray, "refs records"]:
        """True for the IN references of a record."""
        return self.side == IN

    @property
    def outside(self) -> Bool[np.ndarray, "refs records"]:
        """True for the OUT references of a record."""
        return self.side == OUT

    def of_target(
        self,
        target: Float64[np.ndarray, "records queries signals"],
        population_target: Float64[np.ndarray, "population queries signals"],
    ) -> "AttackView":
        """Return the view of other answers by the same references, with all that was computed from these."""
        view = replace(self, target=target, population_target=population_target)
        object.__setattr__(view, "shared", self.shared)
        return view

    @property
    def use(self) -> Bool[np.ndarray, "refs records"]:
        """True for the references that are used for a record, IN and OUT alike."""
        return self.side != UNUSED


Scores = Float64[np.ndarray, "records"]
"""An attack's verdict: larger = more likely a member, always. Finite."""


@dataclass(frozen=True)
class Measure:
    """A figure with its interval.

    Attributes:
        value: The estimate.
        low: Lower end of the 95 % interval, or None without an interval.
        high: Upper end.
        std: Standard deviation over targets; None for a single target.
        interval: How the interval was made (`delong`, `records`, `t`, ...); empty where there is none.
        difference: This minus the same targets at fp32, or None without such a comparison.
        difference_low: Lower end of its paired 95 % interval.
        difference_high: Upper end.
        verdict: `lower`, `not distinguishable` or `higher` than fp32; empty where there is nothing to compare. By
            `p_adjusted` where there is one, else by `p_value`: below 0.05 is a difference.
        p_value: Two-sided p-value of no difference, from the same paired interval, or None.
        p_adjusted: `p_value` corrected over the whole table; None before the table is joined.
        about: Subject of the interval and of the verdict, see `About`; empty where there is neither, and for epsilon.
        family: Name of the comparisons that are corrected together; empty where there is no p-value.
        fpr_obtained: FPR of the ROC point that a TPR is taken at (the mean over the targets); None for other figures.
        step_fpr: FPR at the other end of a step: tied scores leave the TPR open between `value` and `step_value`.
            There is no interval then (`interval` is `step`) and no verdict. None if there is no step.
        step_value: TPR at the other end of the step.
        unbiased: Estimate that is free of the bias of the rule for `value`, which the interval and the p-value are
            made around; None if it is the same.
        chosen: Pair of attack and adversary that a figure of the attack `strongest` is by; empty for others.
    """

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None
    interval: str = ""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    verdict: str = ""
    p_value: float | None = None
    p_adjusted: float | None = None
    about: About | Literal[""] = ""
    family: str = ""
    fpr_obtained: float | None = None
    step_fpr: float | None = None
    step_value: float | None = None
    unbiased: float | None = None
    chosen: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the results table: a measure with its variant, attack and target.

    Attributes:
        variant: `fp32`, `adaround-1.58`, ..., or `control` (targets whose answers are noise).
        quantizer: Empty for `fp32` and `control`.
        levels: None for `fp32` and `control`, and where the precision is not known.
        attack: Empty for metrics that no attack has a part in.
        reference: `fp32`, `matched`, `recalibrated`; empty where no reference is used.
        target: Row number of the target as text, or `all`.
        metric: `auc`, `tpr@0.001`, `balanced_accuracy`, `test_accuracy`, ...
        measure: The figure.
    """

    variant: str
    quantizer: str
    levels: int | None
    attack: str
    reference: str
    target: str
    metric: str
    measure: Measure


Curve = Float[np.ndarray, "points 2"]
"""A ROC curve: columns FPR and TPR, ascending."""
