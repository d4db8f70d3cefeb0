"""The sections of a config, as checked, frozen data; the classes' fields are the keys of the file."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bitleak.core.checks import integer_in, number_in
from bitleak.core.limits import MODELS, QUERIES, ROUNDS, why_too_many
from bitleak.core.types import ReferenceKind, SplitMode
from bitleak.core.variants import FULL
from bitleak.data.augmentation_names import Augment, check_queries
from bitleak.train.recipe import Recipe


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
    """Who is trained on what.

    Attributes:
        mode: `population` (complementary pairs, every model can be a target) or `dedicated`
            (targets on independent halves, separate shadows).
        models: Models of a population; even, at least 6 (2 references a side), and unused by `dedicated`.
        targets: How many models are attacked.
        shadows: Shadow models of `dedicated`; even, at least 4, and unused by `population`.
        held_out: Share of the records held out where the source has no test part of its own.
        calibration: Held-out records for calibrating quantizers.
        population: Held-out records for what the adversary knows of the distribution.
        test: Held-out records for the accuracy; `null` is all that are left.
    """

    mode: SplitMode = "population"
    models: int = 16
    targets: int = 8
    shadows: int = 64
    held_out: float = 0.3
    calibration: int = 0
    population: int = 100
    test: int | None = None

    def __post_init__(self) -> None:
        number_in("held_out", self.held_out, 0, 1, ends="()")
        integer_in("calibration", self.calibration, 0)
        integer_in("population", self.population, 2)
        if self.test is not None:
            integer_in("test", self.test, 1)
        count = "models" if self.mode == "population" else "shadows"
        value = integer_in(count, getattr(self, count), 6 if self.mode == "population" else 4, MODELS)
        if value % 2:
            raise ValueError(f"{count} must be even (the models come in complementary halves), got {value}")
        integer_in("targets", self.targets, 1, self.models if self.mode == "population" else MODELS)


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
            raise ValueError(f"factory must be 'package.module:make' or 'timm:NAME', got {self.factory!r}")
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options must hold text, numbers, lists and mappings alone: {error}") from None

    @property
    def entries(self) -> dict[str, Any]:
        """The keys that say something, as options of the registry's model `external`."""
        given = {"options": dict(self.options), "version": self.version}
        return {"factory": self.factory, **{key: value for key, value in given.items() if value}}


@dataclass(frozen=True)
class CalibrationConfig:
    """The images that a quantizer may look at.

    Attributes:
        source: `members` of the model being quantized, or `holdout` records that no model saw.
        records: How many.
        rounds: How many times, each under its own random augmentation.
        augment: Random transforms of each round; none shows the images as they are.
    """

    source: Literal["members", "holdout"] = "members"
    records: int = 1024
    rounds: int = 1
    augment: tuple[Augment, ...] = ()

    def __post_init__(self) -> None:
        integer_in("records", self.records, 1)
        integer_in("rounds", self.rounds, 1, ROUNDS)
        if self.rounds > 1 and not self.augment:
            raise ValueError(f"rounds must be 1 without augmentation (the images would repeat), got {self.rounds}")


@dataclass(frozen=True)
class QueryConfig:
    """How every model is asked.

    Attributes:
        augment: The fixed list of augmentations; `identity` first.
        batch: Images per forward pass.
    """

    augment: tuple[str, ...] = ("identity", "flip")
    batch: int = 64

    def __post_init__(self) -> None:
        integer_in("batch", self.batch, 1)
        reason = why_too_many(len(self.augment), QUERIES, "queries per record")
        if reason:
            raise ValueError(f"augment: {reason}")
        try:
            check_queries(self.augment)
        except ValueError as error:
            raise ValueError(f"augment: {error}") from None


@dataclass(frozen=True)
class QuantizeConfig:
    """One quantizer at one precision.

    Attributes:
        name: A name of the registry's `QUANTIZERS`, or `package.module:Name`.
        label: What the tables call it; the name unless given.
        levels: Grid points per weight.
        preset: The preset its fields started from; empty for none.
        options: All fields of the quantizer but `levels`.
        calibration: The images it may look at.
        looks_at_images: Whether it does; a quantizer that says nothing of it is taken to.
    """

    name: str
    label: str
    levels: int
    preset: str
    options: Mapping[str, Any]
    calibration: CalibrationConfig
    looks_at_images: bool = True

    @property
    def variant(self) -> str:
        """The variant's name in tables: `obc-1.58+last8`, `obc-1.58+stemfp32` where a layer keeps full precision."""
        marks = ""
        if self.options.get("last") not in (None, self.levels):
            marks += f"+last{bits_label(self.options['last'])}"
        for pattern, levels in (self.options.get("layers") or {}).items():
            marks += f"+{pattern}{levels if levels == FULL else bits_label(levels)}"
        return f"{self.label}-{bits_label(self.levels)}{marks}"


@dataclass(frozen=True)
class CalibrationInferenceConfig:
    """The question which members were in the calibration set of a quantized model.

    Attributes:
        variants: Quantized variants to ask it of.
        candidates: Members of a target that may be in the calibration set; half of them are. Even, at least 8.
        models: Quantized models per target, each on its own random half of the candidates; even, at least 16.
        targets: How many of the split's targets.
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
                raise ValueError(f"{name} must be even, so that halves are halves, got {getattr(self, name)}")
        integer_in("targets", self.targets, 1)
        for rate in self.fpr:
            number_in("fpr", rate, 0, 1, ends="()")


@dataclass(frozen=True)
class Config:
    """A whole audit. `data`, `split`, `model`, `train`, `quantize`, ... as in the YAML file.

    Attributes:
        title: What the report is headed with.
        data: The data set.
        split: Who is trained on what.
        model: Name and options of the network.
        train: The recipe.
        quantize: The variants, in the order of the file.
        attacks: Words of the registry's `ATTACKS`, full names of their forms, or `package.module:Name`.
        references: Which adversaries.
        fpr: False positive rates at which the true positive rate is reported, ascending.
        priors: Shares of members among the records asked about that precision is reported for, ascending.
        delta: The delta at which epsilon is bounded, in [0, 1).
        power: Whether the attacks at full precision are also run with 1, 2, 4, ... references a side.
        query: How every model is asked.
        seed: The root of everything random.
        joint: Sets of variants that one adversary sees together, the one that says most first.
        utility_matched: Variants that are compared with noise of equal accuracy.
        calibration_inference: Who was in the calibration set; None does not ask.
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
    utility_matched: tuple[str, ...] = ()
    calibration_inference: CalibrationInferenceConfig | None = None


def bits_label(levels: int) -> str:
    """The precision as tables name it: log2 of the levels, with as few decimals as tell it apart.

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
    """The levels that a precision in bits stands for.

    Raises:
        ValueError: No integer from 2 to 256 has this base-2 logarithm, to two decimals.

    Example:
        >>> [levels_of(bits) for bits in (4, 2, 1.58)]
        [16, 4, 3]
    """
    number_in("bits", bits, 1, 8)
    levels = round(2**bits)
    if abs(math.log2(levels) - bits) > 0.0051:
        raise ValueError(f"bits must be log2 of a whole number of levels (such as 4, 2, 1.58), got {bits!r}")
    return levels
