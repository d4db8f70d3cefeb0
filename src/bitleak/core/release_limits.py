"""Limits under which a variant may be released, as values; `report.release_gate` tests them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bitleak.core.errors import ConfigError
from bitleak.core.metric_names import TEST_ACCURACY, Metric
from bitleak.core.variants import STRONGEST

BOUNDED = ("auc", "auc_within_class", "balanced_accuracy", "tpr", "tpr_chosen", "precision")
"""Figures that a limit may bound: larger is more leakage, from 0 to 1, with an interval."""


@dataclass(frozen=True)
class Limit:
    """An upper bound on a figure, or on its change from full precision.

    Attributes:
        metric: Name of a metric of the results table, such as `tpr@0.01`.
        most: The largest value that may be released; for accuracy, the largest loss.
        change: Whether the bound is on the paired difference from full precision.

    Raises:
        ConfigError: The metric cannot be bounded, or the number is out of its range.
    """

    metric: str
    most: float
    change: bool = False

    def __post_init__(self) -> None:
        loss = self.metric == str(TEST_ACCURACY)
        try:
            base = Metric.parse(self.metric).base
        except ValueError as error:
            raise ConfigError(f"limit on {self.metric!r}: {error}") from error
        if base not in BOUNDED and not loss:
            hint = (
                "; a bound on epsilon is a lower bound, which no limit can be shown to hold for"
                if base == "epsilon"
                else ""
            )
            raise ConfigError(
                f"limit on {self.metric!r}: expected one of {', '.join(BOUNDED)}, with @FPR where "
                f"the table has it{hint}"
            )
        least = -1.0 if self.change else 0.0
        if not (math.isfinite(self.most) and least <= self.most <= 1.0):
            raise ConfigError(
                f"limit on {self.metric!r}: expected a number from {least:g} to 1, got {self.most:g}"
            )

    def __str__(self) -> str:
        if self.metric == str(TEST_ACCURACY):
            return f"loss of test accuracy <= {self.most:g}"
        over = " - fp32's" if self.change else ""
        return f"{self.metric}{over} <= {self.most:g}"


@dataclass(frozen=True)
class ReleaseLimits:
    """Limits by the words of `bitleak check`; the keys of the section `limits` of a config.

    Attributes:
        max: Largest value by figure, such as `{auc: 0.55, tpr@0.01: 0.02}`.
        max_accuracy_drop: Largest loss of test accuracy from full precision, as a share.
        no_worse_than: Variant that the figures of `margin` are compared with; goes with `margin`.
        margin: Figures that may exceed full precision's, and by how much.
        adversary: `strongest`, or an attack and its references: `rmia-online/matched`.

    Raises:
        ConfigError: There is no limit, a limit cannot hold, or a margin lacks its variant.

    Example:
        >>> [str(limit) for limit in ReleaseLimits({"auc": 0.6}, max_accuracy_drop=0.01).limits]
        ['auc <= 0.6', 'loss of test accuracy <= 0.01']
    """

    max: Mapping[str, float] = field(default_factory=dict)
    max_accuracy_drop: float | None = None
    no_worse_than: Literal["fp32"] | None = None
    margin: Mapping[str, float] = field(default_factory=dict)
    adversary: str = STRONGEST

    def __post_init__(self) -> None:
        if (self.no_worse_than is None) != (not self.margin):
            raise ConfigError("no_worse_than: fp32 and margin belong together; give both")
        if str(TEST_ACCURACY) in {*self.max, *self.margin}:
            raise ConfigError(
                f"{TEST_ACCURACY} is bounded by its loss from full precision: give max_accuracy_drop"
            )
        if not self.limits:
            raise ConfigError(
                "expected at least one limit: max (such as {auc: 0.6}), max_accuracy_drop, or "
                "no_worse_than with margin"
            )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits: those on figures, on changes, and on the loss of accuracy."""
        limits = [Limit(name, most) for name, most in self.max.items()]
        limits += [Limit(name, most, change=True) for name, most in self.margin.items()]
        if self.max_accuracy_drop is not None:
            limits.append(Limit(str(TEST_ACCURACY), self.max_accuracy_drop))
        return tuple(limits)
