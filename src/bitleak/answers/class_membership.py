"""Membership that depends on the class: told before work starts, measured within classes, and the first thing reported.

`bitleak.metrics.within_class` defines the test and the figures.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.answers.attack_design import MODE, Design
from bitleak.answers.model_answers import Answers
from bitleak.core.metric_names import AUC_WITHIN_CLASS, Metric
from bitleak.core.types import Measure, Row
from bitleak.core.variants import FULL
from bitleak.metrics import ClassDependence, Estimates
from bitleak.report.format import count, figure
from bitleak.steps.find_copies import Groups
from bitleak.steps.result_rows import Subject

CLASS_AUC = str(AUC_WITHIN_CLASS)

LISTED = 8
"""Targets whose figures a sentence holds."""


def class_dependences(answers: Answers, design: Design) -> Mapping[int, ClassDependence]:
    """Return the targets whose membership depends on the class; none without labels."""
    if answers.labels is None:
        return {}
    labels = answers.labels[design.records]
    tested = {
        target: metrics.class_dependence(design.member[target], labels) for target in design.targets
    }
    return {target: found for target, found in tested.items() if found.depends}


def class_warning(
    dependent: Mapping[int, ClassDependence], answers: Answers, design: Design
) -> str:
    """Return the sentence before work starts; empty if membership does not depend on the class."""
    if not dependent:
        return ""
    target, worst = min(dependent.items(), key=lambda pair: pair[1].p_value)
    return (
        f"membership depends on the class in {count(len(dependent), 'target')} of {len(design.targets)} (target "
        f"{answers.names[target]} has {worst.members:,} members among the {count(worst.records, 'record')} of class "
        f"{worst.label}): the class alone tells members from others, which is no leakage of records"
    )


def within_class(
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    labels: np.ndarray,
    targets: Sequence[int],
    clusters: Groups | None = None,
) -> tuple[Estimates, tuple[int, ...]]:
    """Return the AUC within classes of the targets that have one, and these targets."""
    dense = metrics.dense_clusters(clusters)
    found = [
        metrics.auc_within_class(*pair, labels, dense) for pair in zip(scores, member, strict=True)
    ]
    known = {target: one for target, one in zip(targets, found, strict=True) if one is not None}
    return ({CLASS_AUC: tuple(known.values())} if known else {}), tuple(known)


def within_class_rows(
    subject: Subject,
    scores: Float64[np.ndarray, "targets records"],
    member: Bool[np.ndarray, "targets records"],
    labels: np.ndarray,
    *,
    targets: Sequence[int],
    fprs: Sequence[float],
    baseline: Estimates | None,
    clusters: Groups | None = None,
) -> tuple[list[Row], Estimates]:
    """Return the rows of one attack in one case, the mean over the targets that have the figure first.

    Args:
        subject: The first columns.
        scores: Scores of the attack.
        member: Membership of the targets.
        labels: Classes of the records.
        targets: Rows of the targets.
        fprs: False positive rates.
        baseline: Estimates at full precision, as this function returned them; None if these are they.
        clusters: Number of each record's cluster; None if all are independent.

    Returns:
        The rows, and the estimates of the areas.
    """
    estimates, known = within_class(scores, member, labels, targets, clusters)
    if not known:
        return [], {}
    measures = metrics.measures_from(estimates, mode=MODE, baseline=baseline)
    rows = [Row(*subject, "all", CLASS_AUC, measures.aggregate[CLASS_AUC])]
    for target, measure in zip(known, measures.targets[CLASS_AUC], strict=True):
        rows.append(Row(*subject, str(target), CLASS_AUC, measure))
    # A target without a class of both kinds has no figure, and no part in the mean.
    rates = [
        metrics.tpr_within_class(*pair, labels, fprs) for pair in zip(scores, member, strict=True)
    ]
    for fpr in fprs:
        tprs = {
            target: rate[fpr] for target, rate in zip(targets, rates, strict=True) if fpr in rate
        }
        if tprs:
            name = str(Metric("tpr_within_class", fpr))
            rows.append(Row(*subject, "all", name, Measure(float(np.mean(list(tprs.values()))))))
            rows += [Row(*subject, str(target), name, Measure(tpr)) for target, tpr in tprs.items()]
    return rows, estimates


def class_figures_warning(
    sentence: str, rows: Sequence[Row], attack: str, dependent: Mapping[int, ClassDependence]
) -> str:
    """The sentence with the figures of an attack at full precision: the mean, and the dependent targets one by one."""
    area: dict[str, Measure] = {}
    within: dict[str, Measure] = {}
    for row in rows:
        if (row.variant, row.attack) == (FULL, attack) and row.reference in (FULL, ""):
            if row.metric == "auc":
                area[row.target] = row.measure
            elif row.metric == CLASS_AUC:
                within[row.target] = row.measure
    text = f"M{sentence[1:]}."
    if "all" not in within:
        return f"{text} No class has members and non-members, so nothing can be measured within classes."
    singles = [
        f"{target}: {area[str(target)].value:.3f} and {within[str(target)].value:.3f}"
        for target in list(dependent)[:LISTED]
        if str(target) in within
    ]
    more = ", ..." if len(dependent) > LISTED else ""
    listed = f" By target, {'; '.join(singles)}{more}." if len(area) > 2 else ""
    return (
        f"{text} AUC of {attack}: {figure(area['all'], 3)} over all records, {figure(within['all'], 3)} within "
        f"classes, which is what is leaked of records.{listed} results.csv has {CLASS_AUC} of every attack and target."
    )
