"""The joint attack on full-precision and quantized answers of the same models."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.answers.attack_design import MODE
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.class_membership import within_class_rows
from bitleak.answers.serving_models import ReferenceRows, ReferenceUse
from bitleak.answers.target_views import FULL_BY_FULL, QUANTIZED, QUANTIZED_BY_MATCHED, TargetViews
from bitleak.attacks import Joint
from bitleak.core.seeds import seed_for
from bitleak.core.types import AttackView, Row
from bitleak.core.variants import FULL, joined
from bitleak.metrics import Estimates
from bitleak.report import RocCurve, named_curves
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.compare_variants import ComparedScores, excess_rows
from bitleak.steps.result_rows import Subject

RELEASES = ((FULL,), (QUANTIZED,), (FULL, QUANTIZED))
"""Each release alone, and both together."""

JOINT_CASES = {FULL: FULL_BY_FULL, QUANTIZED: QUANTIZED_BY_MATCHED}


def score_releases(views: Sequence[AttackView]) -> Float64[np.ndarray, "records"]:
    """Return the scores of one target, seen in several releases."""
    return Joint()(views)


def joint_scores(
    views: TargetViews, target: int, rows: ReferenceRows, use: ReferenceUse
) -> Float64[np.ndarray, "releases records"]:
    """Return the scores of one target for each of `RELEASES`."""
    by_release = {name: views.of(target, case, rows, use) for name, case in JOINT_CASES.items()}
    scores = []
    for releases in RELEASES:
        scores.append(score_releases([by_release[name] for name in releases]))
    return np.stack(scores)


def joint_rows(
    prepared: PreparedAttack,
    scores: Mapping[tuple[str, ...], AttackScores],
    member: Bool[np.ndarray, "targets records"],
) -> tuple[list[Row], list[RocCurve]]:
    """Return rows and curves of each release alone and of both, and by how much both exceed the better one."""
    # Differences are against full precision alone, the first of the releases.
    design = prepared.design
    (label,) = scores[RELEASES[0]].attacks
    alone = [of_release.scores[0] for releases, of_release in scores.items() if len(releases) == 1]
    clusters = prepared.clusters
    baseline = metrics.estimate_metrics(
        alone[0],
        member,
        fprs=prepared.fprs,
        seed=seed_for(design.seed, "measure"),
        clusters=clusters,
    )

    # The first release comes first in `scores` too, so its figures are there for the others.
    within_baseline: Estimates | None = None
    rows: list[Row] = []
    curves: list[RocCurve] = []
    for releases, of_releases in scores.items():
        quantizer = QUANTIZED if releases == (QUANTIZED,) else ""
        reference = FULL if releases == (FULL,) else "matched"
        step = prepared.measuring(joined(releases), quantizer, reference, comparisons=1)
        subject = Subject(step.variant, quantizer, None, label.name, reference)
        table = step.attack_table(
            label,
            design.targets,
            of_releases.scores[0],
            member,
            baseline=baseline,
            thresholds=None,
            mode=MODE,
            clusters=clusters,
        )
        rows += table.rows
        curves += named_curves(step.variant, quantizer, None, table.curves)
        if prepared.by_class:
            within, estimates = within_class_rows(
                subject,
                of_releases.scores[0],
                member,
                prepared.labels,
                targets=design.targets,
                fprs=prepared.fprs,
                baseline=within_baseline,
                clusters=clusters,
            )
            within_baseline = estimates if within_baseline is None else within_baseline
            rows += within
        if len(releases) > 1:
            rows += excess_rows(
                subject,
                design.targets,
                ComparedScores(of_releases.scores[0]),
                list(map(ComparedScores, alone)),
                member,
                over="best",
                fprs=prepared.fprs,
                mode=MODE,
                seed=design.seed,
                clusters=clusters,
            )
    return rows, curves
