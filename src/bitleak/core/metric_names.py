"""Metrics of the results table as values, and their names.

A name is `BASE`, `BASE@FPR` or `BASE@FPR,priorPRIOR`, with `_over_OTHER` at the end for a
difference from others:

| name | meaning |
|---|---|
| `auc`, `balanced_accuracy`, `epsilon`, `bytes`, ... | a figure without parameters |
| `tpr@0.01` | TPR at an FPR of 1 % |
| `tpr_chosen@0.01`, `fpr_chosen@0.01` | rates at the threshold that the adversary chose for an FPR of 1 % |
| `precision@0.01,prior0.1` | precision at that threshold if 10 % of the records are members |
| `auc_over_best`, `tpr@0.01_over_noise` | paired difference from the best release alone, or from noise |
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_NAME = re.compile(
    rf"(?P<base>[a-z][a-z0-9_]*?)(?:@(?P<fpr>{_NUMBER})(?:,prior(?P<prior>{_NUMBER}))?)?"
    r"(?:_over_(?P<over>[a-z][a-z0-9_]*))?"
)
_FORM = "lower-case letters, digits and underlines, then optionally `@FPR`, `,priorPRIOR` and `_over_OTHER`"


@dataclass(frozen=True)
class Metric:
    """One figure of the results table.

    Attributes:
        base: Name of the figure without its parameters, such as `tpr`.
        fpr: False-positive rate that it is measured at or aimed at, rounded to the 6 digits of its
            text; None if there is none.
        prior: Share of members among the records that a precision assumes, rounded likewise; None
            if there is none.
        over: The others that it is a difference from; empty if it is no difference.

    Raises:
        ValueError: The parts do not make a name that `parse` reads.

    Example:
        >>> Metric.parse("tpr@0.01_over_noise")
        Metric(base='tpr', fpr=0.01, prior=None, over='noise')
        >>> str(Metric("precision", fpr=0.001, prior=0.5))
        'precision@0.001,prior0.5'
    """

    base: str
    fpr: int | float | None = None
    prior: int | float | None = None
    over: str = ""

    def __post_init__(self) -> None:
        for name in ("fpr", "prior"):
            number = getattr(self, name)
            if number is not None:
                object.__setattr__(self, name, float(f"{number:g}"))
        if _parts(str(self)) != (self.base, self.fpr, self.prior, self.over):
            raise ValueError(f"a metric's name must be {_FORM}, got {str(self)!r}")

    @classmethod
    def parse(cls, name: str) -> "Metric":
        """Return the metric with this name.

        Args:
            name: As in `Row.metric`.

        Raises:
            ValueError: No metric has such a name.
        """
        parts = _parts(name)
        metric = None if parts is None else cls(*parts)
        if metric is None or str(metric) != name:
            raise ValueError(
                f"a metric's name must be {_FORM}, with numbers as short as they can be, got {name!r}"
            )
        return metric

    def __str__(self) -> str:
        at = "" if self.fpr is None else f"@{self.fpr:g}"
        given = "" if self.prior is None else f",prior{self.prior:g}"
        name = f"{self.base}{at}{given}"
        return name_of_difference(name, self.over) if self.over else name

    def compared_with(self, baseline: str) -> "Metric":
        """Return the metric of the paired difference from a baseline.

        Example:
            >>> str(AUC.compared_with("best"))
            'auc_over_best'
        """
        return Metric(self.base, self.fpr, self.prior, baseline)


def name_of_difference(name: str, others: str) -> str:
    """Return the name of a metric's paired difference from others.

    Like `Metric.compared_with`, for any name, such as that of a metric from outside.

    Example:
        >>> name_of_difference("tpr@0.01", "noise")
        'tpr@0.01_over_noise'
    """
    return f"{name}_over_{others}"


@lru_cache(4096)
def _parts(name: str) -> tuple[str, float | None, float | None, str] | None:
    """The fields of the metric with this name; None if it is no name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    fpr, prior = (None if match[part] is None else float(match[part]) for part in ("fpr", "prior"))
    return match["base"], fpr, prior, match["over"] or ""


NAIVE = "naive"
"""End of the names of differences from the strongest adversary without quantized references."""

MATCHED = "matched"
"""End of the names of differences of references by another preset from matched ones."""

AUC = Metric("auc")
BALANCED_ACCURACY = Metric("balanced_accuracy")
EPSILON = Metric("epsilon")
TEST_ACCURACY = Metric("test_accuracy")
TRAIN_ACCURACY = Metric("train_accuracy")
AGREEMENT = Metric("agreement")
BYTES = Metric("bytes")
BITS_PER_WEIGHT = Metric("bits_per_weight")
AUC_WITHIN_CLASS = Metric("auc_within_class")
NOISE_SCALE = Metric("noise_scale")
NOISE_ACCURACY_GAP = Metric("noise_accuracy_gap")
CALIBRATION_DETECTABLE_AUC = Metric("calibration_detectable_auc")
