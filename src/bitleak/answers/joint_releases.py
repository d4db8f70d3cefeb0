"""The joint attack on full-precision and quantized answers of the same models."""

import time

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.answers.attack_preparation import Prepared
from bitleak.answers.attack_tables import MODE, curves_of, lines
from bitleak.answers.target_views import FULL, QUANTIZED, Case, Rows, Use, Views
from bitleak.attacks import Joint
from bitleak.core.metric_names import name_of_difference
from bitleak.core.seeds import seed_for
from bitleak.core.types import AttackView, Row
from bitleak.core.variants import joined
from bitleak.metrics import Measures
from bitleak.report import RocCurve

RELEASES = ((FULL,), (QUANTIZED,), (FULL, QUANTIZED))
"""Each alone, and both together."""

CASES = {FULL: Case(FULL, "fp32"), QUANTIZED: Case(QUANTIZED, "matched")}


def joint_seconds(view: AttackView) -> float:
    """What the attack takes on all of `RELEASES` of one target, with as many records as the view has."""
    start = time.perf_counter()
    for releases in RELEASES:
        Joint()([view] * len(releases))
    return time.perf_counter() - start


def joint_scores(views: Views, target: int, rows: Rows, use: Use) -> Float64[np.ndarray, "releases records"]:
    """The scores of one target for each of `RELEASES`."""
    of = {name: views.of(target, case, rows, use) for name, case in CASES.items()}
    return np.stack([Joint()([of[name] for name in releases]) for releases in RELEASES])


def joint_rows(
    prepared: Prepared,
    scores: Float64[np.ndarray, "releases targets records"],
    member: Bool[np.ndarray, "targets records"],
) -> tuple[list[Row], list[RocCurve]]:
    """Rows and curves of every release alone and of both, and how far both lie over the better one."""
    seed = seed_for(prepared.design.seed, "measure")
    estimates = [metrics.estimate_metrics(each, member, fprs=prepared.fprs, seed=seed) for each in scores]
    rows: list[Row] = []
    curves: list[RocCurve] = []
    for index, releases in enumerate(RELEASES):
        variant, alone = joined(releases), len(releases) == 1
        quantizer = QUANTIZED if releases == (QUANTIZED,) else ""
        about = (variant, quantizer, None, Joint().name, FULL if releases == (FULL,) else "matched")
        rows += lines(
            about,
            prepared,
            metrics.measures_from(estimates[index], mode=MODE, baseline=estimates[0] if index else None),
        )
        curves += curves_of(about, prepared, scores[index], member)
        if not alone:
            over = metrics.excess_over_best(estimates[index], estimates[:index], mode=MODE)
            rows += lines(about, prepared, _renamed(over))
    return rows, curves


def _renamed(over: Measures) -> Measures:
    targets = {name_of_difference(name, "best"): each for name, each in over.targets.items()}
    return Measures(targets, {name_of_difference(name, "best"): total for name, total in over.aggregate.items()})
