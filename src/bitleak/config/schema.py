"""The sections of a config, as checked, frozen data; the classes' fields are the keys of the
file.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bitleak.core.checks import integer_in, number_in
from bitleak.core.limits import MOST_MODELS, MOST_QUERIES, MOST_ROUNDS, why_too_many
from bitleak.core.release_limits import ReleaseLimits
from bitleak.core.types import Kept, ReferenceKind, SplitMode
from bitleak.core.variants import FULL, JOINT
from bitleak.data.augmentation_names import Augment, check_queries
from bitleak.registry import TRAINED_QUANTIZERS
from bitleak.train.recipe import Recipe

if TYPE_CHECKING:
    from bitleak.config.canaries_section import CanariesConfig
    from bitleak.config.channels_section import ChannelsConfig
    from bitleak.config.target_section import TargetConfig


COPIES = "copies"
"""Entry of `clusters` for the copies among the images."""


@dataclass(frozen=True)
class DataConfig:
    """Which data set, and how much of it.

    Attributes:
        name: A name of the registry's `DATASETS`, or `package.module:Name`.
        options: The data set's own fields.
        limit: At most this many records to draw the pool from; a seeded, class-balanced subset.
        held_out: At most this many records of the source's own test part.
    """

    name: str
    options: Mapping[str, Any]
    limit: int | None = None
    held_out: int | None = None

    def __post_init__(self) -> None:
        for name in ("limit", "held_out"):
            if getattr(self, name) is not None:
                integer_in(name, getattr(self, name), 2)


@dataclass(frozen=True)
class SplitConfig:
    """The records that each model is trained on.

    Attributes:
        mode: `population` (complementary pairs, every model can be a target) or `dedicated`
            (targets on independent halves, separate shadows).
        models: Models of a population; even, at least 6 (2 references per side), unused by
            `dedicated`.
        targets: How many models are attacked.
        shadows: Shadow models of `dedicated`; even, at least 4, and unused by `population`.
        held_out: Share of the records that are held out if the source has no test part of its own.
        calibration: Held-out records for calibrating quantizers.
        population: Held-out records from which the adversary learns the distribution.
        test: Held-out records for the accuracy; `null` takes all remaining ones.
        pairs: Whether the shadows of `dedicated` are drawn as complementary pairs, which partly
            quantized references need.
    """

    mode: SplitMode = "population"
    models: int = 16
    targets: int = 8
    shadows: int = 64
    held_out: float = 0.3
    calibration: int = 0
    population: int = 100
    test: int | None = None
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.pairs and self.mode == "population":
            raise ValueError("pairs is for mode dedicated; the models of a population are pairs")
        number_in("held_out", self.held_out, 0, 1, ends="()")
        integer_in("calibration", self.calibration, 0)
        integer_in("population", self.population, 2)
        if self.test is not None:
            integer_in("test", self.test, 1)
        count = "models" if self.mode == "population" else "shadows"
        value = integer_in(
            count, getattr(self, count), 6 if self.mode == "population" else 4, MOST_MODELS
        )
        if value % 2:
            raise ValueError(
                f"{count} must be even (the models come in complementary halves), got {value}"
            )
        integer_in(
            "targets", self.targets, 1, self.models if self.mode == "population" else MOST_MODELS
        )


@dataclass(frozen=True)
class ExternalConfig:
    """A network from outside: the keys of `model: {name: external, ...}`.

    Attributes:
        factory: `package.module:make`, or `timm:NAME`.
        options: Further arguments of the factory.
        version: Raised when the factory's code has changed; a part of the keys of results.
    """

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

    def __post_init__(self) -> None:
        module, colon, attribute = self.factory.partition(":")
        if not (module and colon and attribute) or " " in self.factory:
            raise ValueError(
                f"factory must be 'package.module:make' or 'timm:NAME', got {self.factory!r}"
            )
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"options must hold text, numbers, lists and mappings alone: {error}"
            ) from None

    @property
    def entries(self) -> dict[str, Any]:
        """Keys that are not empty, as options of the registry's model `external`."""
        entries: dict[str, Any] = {"factory": self.factory}
        if self.options:
            entries["options"] = dict(self.options)
        if self.version:
            entries["version"] = self.version
        return entries


@dataclass(frozen=True)
class CalibrationConfig:
    """The images that a quantizer may look at.

    Attributes:
        source: `members` of the model being quantized, or `holdout` records, on which no model was
            trained.
        records: Number of images.
        rounds: Number of passes over them, each under its own random augmentation.
        augment: Random transforms of each round; if there are none, the images are used as they
            are.
    """

    source: Literal["members", "holdout"] = "members"
    records: int = 1024
    rounds: int = 1
    augment: tuple[Augment, ...] = ()

    def __post_init__(self) -> None:
        integer_in("records", self.records, 1)
        integer_in("rounds", self.rounds, 1, MOST_ROUNDS)
        if self.rounds > 1 and not self.augment:
            raise ValueError(
                f"rounds must be 1 without augmentation (the images would repeat), got {self.rounds}"
            )


@dataclass(frozen=True)
class QueryConfig:
    """Queries: the forms in which every model is given each record.

    Attributes:
        augment: The fixed list of augmentations; `identity` first.
        batch: Images per forward pass.
        keep: Answers that are stored: `signals`, or `logits` beside them, which attacks divide by a
            temperature.
    """

    augment: tuple[str, ...] = ("identity", "flip")
    batch: int = 64
    keep: Kept = "signals"

    def __post_init__(self) -> None:
        integer_in("batch", self.batch, 1)
        reason = why_too_many(len(self.augment), MOST_QUERIES, "queries per record")
        if reason:
            raise ValueError(f"augment: {reason}")
        try:
            check_queries(self.augment)
        except ValueError as error:
            raise ValueError(f"augment: {error}") from None


TOOL = "tool"
"""Name of entries of `quantize` that call a function of another kit."""


@dataclass(frozen=True)
class ToolConfig:
    """A function of another kit that quantizes networks, see `bitleak.tools`.

    Attributes:
        call: A name of the registry's `TOOLS`, or `package.module:function`.
        version: Raised by the config's author when a tool of local files changes.
        options: Options of the function.
        runtime: Options of the runtime that answers its files.
    """

    call: str
    version: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


FILE = "file"
"""Name of entries of `quantize` that are a file of the target, made elsewhere."""


@dataclass(frozen=True)
class FileConfig:
    """A quantized version of the target as a file that a runtime executes.

    Attributes:
        file: The file, such as `int8.onnx`.
        runtime: Options of the runtime that answers it.
        tool: The keys of `ToolConfig` for the tool that made it, by which references are quantized
            alike; None if it is not known.
    """

    file: str
    runtime: Mapping[str, Any] = field(default_factory=dict)
    tool: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError("file must be a path, got an empty text")


@dataclass(frozen=True)
class QuantizeConfig:
    """One quantizer at one precision.

    Attributes:
        name: A name of the registry's `QUANTIZERS` or `TRAINED_QUANTIZERS`, `package.module:Name`,
            `tool`, or `file`.
        label: Its name in tables; `name` by default.
        levels: Grid points per weight; None for a tool and a file, whose levels are counted.
        preset: The preset that its fields started from, or empty.
        options: All fields of the quantizer but `levels`; those of `ToolConfig` for a tool, and of
            `FileConfig` for a file.
        calibration: The images it may look at; not used by a trained quantizer.
        looks_at_images: Whether it uses them; True for a quantizer without this attribute.
    """

    name: str
    label: str
    levels: int | None
    preset: str
    options: Mapping[str, Any]
    calibration: CalibrationConfig
    looks_at_images: bool = True

    @property
    def tool(self) -> ToolConfig | None:
        """The tool of a tool's or a file's entry; None if there is none."""
        if self.name not in (TOOL, FILE):
            return None
        options = self.options if self.name == TOOL else self.options["tool"]
        return None if options is None else ToolConfig(**options)

    @property
    def is_trained(self) -> bool:
        """Whether the network is trained on, on all its members and their labels."""
        return self.name in TRAINED_QUANTIZERS

    @property
    def has_matched_references(self) -> bool:
        """Whether references can be quantized as the target is: all but a file without a tool."""
        return self.name != FILE or self.tool is not None

    @property
    def variant(self) -> str:
        """The variant's name in tables: `obc-1.58+last8`, `obc-1.58+stemfp32` if a layer keeps full
        precision, `obc-4+act8` if activations have 8 bits.
        """
        if self.levels is None:
            return self.label
        marks = ""
        if self.options.get("last") not in (None, self.levels):
            marks += f"+last{bits_label(self.options['last'])}"
        for pattern, levels in (self.options.get("layers") or {}).items():
            marks += f"+{pattern}{levels if levels == FULL else bits_label(levels)}"
        if self.options.get("activations") is not None:
            marks += f"+act{self.options['activations']}"
        return f"{self.label}-{bits_label(self.levels)}{marks}"


@dataclass(frozen=True)
class CalibrationInferenceConfig:
    """Calibration inference: which members were in the calibration set of a quantized model?

    Attributes:
        variants: Quantized variants that are attacked.
        candidates: Members of a target that may be in the calibration set; half of them are. Even,
            at least 8.
        models: Quantized models per target, each on its own random half of the candidates; even, at
            least 16.
        targets: Number of the split's targets that are attacked.
        fpr: False positive rates at which the true positive rate is reported.
    """

    variants: tuple[str, ...]
    candidates: int = 64
    models: int = 16
    targets: int = 2
    fpr: tuple[float, ...] = (0.1,)

    def __post_init__(self) -> None:
        for name, fewest in (("candidates", 8), ("models", 16)):
            if integer_in(name, getattr(self, name), fewest) % 2:
                raise ValueError(
                    f"{name} must be even, so that halves are halves, got {getattr(self, name)}"
                )
        integer_in("targets", self.targets, 1)
        for rate in self.fpr:
            number_in("fpr", rate, 0, 1, ends="()")


@dataclass(frozen=True)
class HeadlineConfig:
    """The pair of attack and adversary that is named before anything is measured.

    Its figures fill the report's detailed tables, and the headline if there are too few players to
    choose the strongest pair on.

    Attributes:
        attack: Name of a form in full; empty is `lira-online-shrunk` if it is run, else the first
            attack with references.
        adversary: Kind of its references; empty is the most knowing one of the config, and for an
            attack without references the only choice. `matched-8` stands for
            `{kind: matched, quantized: 8}`.
    """

    attack: str = ""
    adversary: str = ""


@dataclass(frozen=True)
class Config:
    """A whole audit. `data`, `split`, `model`, `train`, `quantize`, ... as in the YAML file.

    Attributes:
        title: Heading of the report.
        data: The data set.
        split: The records that each model is trained on.
        model: Name and options of the network.
        train: The recipe.
        quantize: The variants, in the order of the file.
        attacks: Words of the registry's `ATTACKS`, full names of their forms, or
            `package.module:Name`.
        metrics: Metrics that are added to those of every table: names of the registry's `METRICS`,
            or `package.module:Name`.
        figures: Figures that are added to those of every report, as `package.module:NAME`.
        references: Adversaries, by their reference models.
        fpr: False positive rates at which the true positive rate is reported, ascending.
        priors: Shares of members among the attacked records for which precision is reported,
            ascending.
        delta: The delta at which epsilon is bounded, in [0, 1).
        power: Whether the attacks at full precision are also run with 1, 2, 4, ... references per
            side.
        query: The forms in which every model is given each record.
        seed: The root of everything random.
        joint: Sets of variants that one adversary sees together.
        joint_attacks: Attacks on these sets: names of the registry's `JOINT_ATTACKS`.
        utility_matched: Variants that are compared with noise of equal accuracy.
        calibration_inference: Inference of the calibration set, or None for no such attack.
        channels: Forms in which an interface gives the answers away, or None.
        canaries: Records that are trained on with a wrong label, or None.
        target: A model that was trained elsewhere (a `TargetConfig`), or None.
        clusters: Records that depend on each other, which intervals and bounds count together:
            `copies` that are found among the images, an `.npy` file with a number per record, or
            empty if all records are independent.
        headline: The pair of attack and adversary that is named beforehand, without empty fields
            but the adversary of an attack without references.
        partly_quantized: Numbers of references of adversaries who quantize only that many of them
            as the target is, and predict the others' answers.
        other_references: Variants that the references of an adversary are quantized as, for every
            target, in the order of the file.
        other_presets: Presets by which the references of an adversary are quantized, in place of
            the target's own.
        limits: Conditions for a release, which `bitleak check` tests on the results, or None; they
            change no result.
        train_given: Fields of `train` that the file gives; the others may be taken from the
            checkpoint of a target.
    """

    title: str
    data: DataConfig
    split: SplitConfig
    model: tuple[str, Mapping[str, Any]]
    train: Recipe
    quantize: tuple[QuantizeConfig, ...]
    attacks: tuple[str, ...]
    references: tuple[ReferenceKind, ...]
    fpr: tuple[float, ...]
    priors: tuple[float, ...]
    delta: float
    power: bool
    query: QueryConfig
    seed: int
    joint: tuple[tuple[str, ...], ...] = ()
    joint_attacks: tuple[str, ...] = (JOINT,)
    utility_matched: tuple[str, ...] = ()
    calibration_inference: CalibrationInferenceConfig | None = None
    channels: "ChannelsConfig | None" = None
    canaries: "CanariesConfig | None" = None
    metrics: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    target: "TargetConfig | None" = None
    clusters: str = ""
    headline: HeadlineConfig = HeadlineConfig("lira-online-shrunk", "matched")
    partly_quantized: tuple[int, ...] = ()
    other_references: tuple[str, ...] = ()
    other_presets: tuple[str, ...] = ()
    limits: ReleaseLimits | None = None
    train_given: tuple[str, ...] = field(default=(), compare=False)


def bits_label(levels: int) -> str:
    """Return the precision in bits as tables show it: log2 of the levels, with the fewest decimals
    that identify it.

    Example:
        >>> [bits_label(levels) for levels in (16, 4, 3, 5, 255)]
        ['4', '2', '1.58', '2.32', '7.994']
    """
    exact = math.log2(levels)
    if exact == int(exact):
        return str(int(exact))
    decimals = 2
    while round(2 ** round(exact, decimals)) != levels:
        decimals += 1
    return f"{exact:.{decimals}f}"


def levels_of(bits: int | float) -> int:
    """Return the number of levels that a precision in bits stands for.

    Raises:
        ValueError: No integer from 2 to 256 has this base-2 logarithm, to two decimals.

    Example:
        >>> [levels_of(bits) for bits in (4, 2, 1.58)]
        [16, 4, 3]
    """
    number_in("bits", bits, 1, 8)
    levels = round(2**bits)
    if abs(math.log2(levels) - bits) > 0.0051:
        raise ValueError(
            f"bits must be log2 of a whole number of levels (such as 4, 2, 1.58), got {bits!r}"
        )
    return levels
