"""Lines of the results table and curves, from measures and scores of every target."""

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.answers.attack_preparation import Prepared
from bitleak.core.types import Row, SplitMode
from bitleak.metrics import Measures
from bitleak.report import RocCurve

MODE: SplitMode = "population"
"""The targets share their records, so intervals resample records."""

About = tuple[str, str, None, str, str]
"""Variant, quantizer, levels, attack and reference."""


def lines(about: About, prepared: Prepared, measures: Measures) -> list[Row]:
    """Rows of every metric: the mean over the targets first, then target by target."""
    rows = []
    for metric, total in measures.aggregate.items():
        rows.append(Row(*about, "all", metric, total))
        singles = zip(prepared.design.targets, measures.targets[metric], strict=True)
        rows += [Row(*about, str(row), metric, one) for row, one in singles]
    return rows


def curves_of(
    about: About,
    prepared: Prepared,
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
) -> list[RocCurve]:
    """The curve of every target, and their mean."""
    each = [metrics.roc(*pair) for pair in zip(scores, member, strict=True)]
    single = zip(prepared.design.targets, each, strict=True)
    return [
        *[RocCurve(*about, str(row), metrics.thin_curve(curve)) for row, curve in single],
        RocCurve(*about, "all", metrics.mean_curve(each)),
    ]
