"""Compare the figures of two runs: two builds, two quantizers, or before and after a defence.

If both runs have `influences.parquet`, the figures are paired by the records that the runs share
(`run_pairing`): with equal models by model and record, else by record alone. The interval is then that
of a paired difference within a run. Two runs that are equal in a figure, to the last influence, are
identical in it: the difference is 0, without an interval.

Without these files, or with nothing in common, the interval is that of two independent figures. With
the centres e_a and e_b, and the reaches l below and u above of their 95 % intervals (Zou and Donner
2008, Statistics in Medicine 27, 1693-1702, equation 4),

    low  = e_b - e_a - sqrt(l_b^2 + u_a^2),    high = e_b - e_a + sqrt(u_b^2 + l_a^2).

The p-value (two-sided, of no difference) is the level at which the interval would end at 0,
corrected by Holm's method over the variants, figure by figure. If two runs on the same records are
not paired, their interval is wider than a paired one, and verdicts are fewer, not wrong.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scipy.special import ndtr, ndtri

from bitleak.core.errors import InputError
from bitleak.core.metric_names import TEST_ACCURACY, Metric
from bitleak.core.types import Measure, Row
from bitleak.core.variants import FULL, STRONGEST
from bitleak.metrics import holm
from bitleak.metrics.verdicts import verdict
from bitleak.report.influence_columns import FigureCell
from bitleak.report.influence_file import INFLUENCES, Influences
from bitleak.report.release_gate import adversary_measure, chosen_adversary
from bitleak.report.results_table import Table, tabulate
from bitleak.report.run_pairing import Basis, RunPair
from bitleak.report.summary import Summary


@dataclass(frozen=True)
class RunDifference:
    """One figure of one variant in two runs.

    Attributes:
        variant: As in `Row.variant`; if the runs' names differ, both with a slash.
        metric: As in `Row.metric`.
        first: The measure in the first run.
        second: The measure in the second run.
        value: Second minus first.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Two-sided p-value of no difference.
        p_adjusted: Corrected over the variants.
        verdict: `lower`, `not distinguishable` or `higher`: the second run against the first; or
            `identical`.
        basis: How the two figures are paired: by `models and records`, by `records`, as
            `independent` figures, or not at all because they are `identical`.
    """

    variant: str
    metric: str
    first: Measure
    second: Measure
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float = 1.0
    verdict: str = ""
    basis: Basis = "independent"


@dataclass(frozen=True)
class RunComparison:
    """Two runs, figure by figure.

    Attributes:
        titles: Titles of the runs.
        adversaries: Attack and references that leakage is measured by, in each run.
        differences: One entry per metric and variant.
        notes: Sentences on the basis, and on settings in which the runs differ.
    """

    titles: tuple[str, str]
    adversaries: tuple[str, str]
    differences: tuple[RunDifference, ...]
    notes: tuple[str, ...]


def compare_runs(
    first: tuple[Iterable[Row], Summary],
    second: tuple[Iterable[Row], Summary],
    *,
    adversary: str = STRONGEST,
    variants: Sequence[tuple[str, str]] = (),
    influences: tuple[Influences | None, Influences | None] = (None, None),
) -> RunComparison:
    """Return AUC, TPR and test accuracy of the second run minus those of the first.

    Args:
        first: Rows and summary of a run.
        second: Rows and summary of the other run.
        adversary: `strongest`, or an attack and the kind of its references.
        variants: Pairs of names, of the first and of the second run; all names that both have if
            empty.
        influences: Influences of the records of each run; None for a run without them.

    Raises:
        InputError: A run lacks the adversary or a variant, or the runs have nothing in common.
    """
    # The adversary of each run, and the names that both have.
    tables = tabulate(first[0]), tabulate(second[0])
    summaries = first[1], second[1]
    pairs = []
    for table, summary in zip(tables, summaries, strict=True):
        pairs.append(chosen_adversary(table, adversary, summary))
    names = _names(tables, variants)
    # With the influences of both runs, figures are paired by the records that they share.
    pairing = None
    if influences[0] is not None and influences[1] is not None:
        pairing = RunPair(influences[0], influences[1])
    # Each metric is a family of Holm's correction.
    differences: list[RunDifference] = []
    for metric in _metrics(summaries):
        of_metric = []
        for old, new in names:
            before = adversary_measure(tables[0], old, metric, *pairs[0])
            after = adversary_measure(tables[1], new, metric, *pairs[1])
            label = old if old == new else f"{old}/{new}"
            change = difference_of(label, metric, before, after)
            if change is not None:
                if pairing is not None:
                    change = _paired(change, pairing, (old, *pairs[0]), (new, *pairs[1]))
                of_metric.append(change)
        differences += _corrected(of_metric)
    if not differences:
        raise InputError("the runs have no figure with an interval in common")
    labels = ["/".join(filter(None, pair)) for pair in pairs]
    return RunComparison(
        titles=(summaries[0].title, summaries[1].title),
        adversaries=(labels[0], labels[1]),
        differences=tuple(differences),
        notes=(*_bases(differences, pairing, influences), *_notes(*summaries)),
    )


def difference_of(
    variant: str, metric: str, first: Measure | None, second: Measure | None
) -> RunDifference | None:
    """Return the second figure minus the first, as independent figures; None if an interval is missing.

    Example:
        >>> before = Measure(0.70, low=0.68, high=0.72)
        >>> change = difference_of("obc-2", "auc", before, Measure(0.65, low=0.635, high=0.665))
        >>> [round(number, 3) for number in (change.value, change.low, change.high)]
        [-0.05, -0.075, -0.025]
    """
    if first is None or second is None:
        return None
    if None in (first.low, first.high, second.low, second.high):
        return None
    # An end that was cut at the range of the figure stays: no figure can be beyond it.
    below_a, above_a = _reaches(first)
    below_b, above_b = _reaches(second)
    value = _centre(second) - _centre(first)
    below, above = math.hypot(below_b, above_a), math.hypot(above_b, below_a)
    reach = below if value > 0 else above
    scaled = 0.0 if value == 0 else abs(value) / reach if reach > 0 else math.inf
    p_value = 2 * float(ndtr(-scaled * ndtri(0.975)))
    shown = second.value - first.value
    return RunDifference(
        variant, metric, first, second, shown, value - below, value + above, p_value
    )


def _paired(
    change: RunDifference, pairing: RunPair, old: FigureCell, new: FigureCell
) -> RunDifference:
    """Return the difference with the interval of paired figures, if the runs share the records."""
    if change.metric == str(TEST_ACCURACY):
        old, new = (old[0], "", ""), (new[0], "", "")
    paired = pairing.difference(old, new, change.metric)
    if paired is None:
        return change
    _, low, high, p_value = paired.difference
    return replace(change, low=low, high=high, p_value=p_value, basis=paired.basis)


def _names(
    tables: tuple[Table, Table], variants: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    present = [[FULL, *map(str, table.quantized)] for table in tables]
    if not variants:
        return [(name, name) for name in present[0] if name in present[1]]
    for pair in variants:
        for place, name, known in zip(("first", "second"), pair, present, strict=True):
            if name not in known:
                raise InputError(
                    f"--variant: no variant {name!r} in the {place} run; it has {', '.join(known)}"
                )
    return list(variants)


def _metrics(summaries: tuple[Summary, Summary]) -> list[str]:
    """Return AUC, the TPRs at the FPRs of both runs, and test accuracy."""
    shared = [fpr for fpr in summaries[0].fprs if fpr in summaries[1].fprs]
    return ["auc", *(str(Metric("tpr", fpr)) for fpr in shared), str(TEST_ACCURACY)]


def _centre(measure: Measure) -> float:
    return measure.value if measure.unbiased is None else measure.unbiased


def _reaches(measure: Measure) -> tuple[float, float]:
    low, high = measure.low or 0.0, measure.high or 0.0
    return max(_centre(measure) - low, 0.0), max(high - _centre(measure), 0.0)


def _corrected(differences: Sequence[RunDifference]) -> list[RunDifference]:
    adjusted = holm([entry.p_value for entry in differences]).tolist()
    corrected = []
    for entry, p_value in zip(differences, adjusted, strict=True):
        decided = verdict(entry.value, p_value)
        if entry.basis == "identical":
            decided = entry.basis
        corrected.append(replace(entry, p_adjusted=p_value, verdict=decided))
    return corrected


def _bases(
    differences: Sequence[RunDifference],
    pairing: RunPair | None,
    influences: tuple[Influences | None, Influences | None],
) -> list[str]:
    """Return sentences on how the figures are paired."""
    # Identical runs need no other note; nor do runs whose figures are all paired.
    bases = {entry.basis for entry in differences}
    if bases == {"identical"}:
        return ["the runs are identical in every figure that is compared"]
    notes = [] if pairing is None else [pairing.sentence()]
    alone = list(dict.fromkeys(e.metric for e in differences if e.basis == "independent"))
    if not alone or (pairing is not None and not pairing.shared("pool")):
        return notes
    # The figures that are not paired, and the reason.
    which = (
        "intervals"
        if "independent" in bases and len(bases) == 1
        else f"those of {', '.join(alone)}"
    )
    lacking = [name for name, run in zip("AB", influences, strict=True) if run is None]
    reason = f"{INFLUENCES} does not hold them for this adversary"
    if lacking:
        reason = f"{' and '.join(lacking)} lacks {INFLUENCES}"
    notes.append(
        f"{which} are those of independent figures from the ends in results.csv, as {reason}; runs "
        "on the same records have narrower ones"
    )
    return notes


def _notes(first: Summary, second: Summary) -> list[str]:
    """Return the subject of the intervals, and settings in which the runs differ."""
    notes = []
    if first.mode == second.mode == "population":
        notes.append("intervals are about these models on other records, not about new trainings")
    for name in ("dataset", "records", "members", "network", "training", "targets", "references"):
        values = getattr(first, name), getattr(second, name)
        if values[0] != values[1]:
            notes.append(f"the runs differ in {name}: {values[0]} and {values[1]}")
    return notes
