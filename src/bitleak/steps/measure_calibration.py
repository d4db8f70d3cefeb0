"""Stages of calibration-set inference: who is a candidate, and the rows of what the attacks found."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Measure, Row, Splits
from bitleak.core.variants import on_calibration
from bitleak.data.calibration_halves import calibration_candidates
from bitleak.engine.worker import Runtime
from bitleak.stages.measuring import plain_rows, rows_of
from bitleak.stages.signature import Artifacts, Params, Progress


def candidates(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The candidates of one target and who of them is in which calibration set."""
    for one in params:
        yield calibration_candidates(inputs["splits"], **one)


def calibration(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The rows and curves of one variant: for every target the mean over its quantized models."""
    scores, halves = inputs["scores"], inputs["splits"]
    for one in params:
        rows: list[Row] = []
        curves: dict[str, np.ndarray] = {}
        for index, each in enumerate(scores[0]["attacks"]):
            name, reference = on_calibration(each["name"]), "matched"
            of_targets = [found["scores"][index] for found in scores]
            rows += rows_of(one, name, reference, one["targets"], _measures(of_targets, halves, one))
            pairs = [
                pair
                for of, split in zip(of_targets, halves, strict=True)
                for pair in zip(of, split.member, strict=True)
            ]
            curves[f"{name}/{reference}/all"] = metrics.mean_curve([metrics.roc(*pair) for pair in pairs])
            progress((index + 1) / len(scores[0]["attacks"]))
        rows.append(_detectable(one, halves))
        yield {"rows": plain_rows(rows), "curves": curves}


def _measures(of_targets: list[np.ndarray], halves: tuple[Splits, ...], one: Mapping[str, Any]) -> metrics.Measures:
    """Every metric: the mean over a target's quantized models, which share its candidates; targets share none."""
    found = []
    for scores, split in zip(of_targets, halves, strict=True):
        figures = metrics.estimate_metrics(scores, split.member, fprs=one["fpr"], seed=seed_for(one["seed"], "measure"))
        found.append({metric: metrics.mean_over_records(each) for metric, each in figures.items()})
    estimates = {metric: metrics.on_separate_records([each[metric] for each in found]) for metric in found[0]}
    return metrics.widen_for_mutual_references(metrics.measures_from(estimates, mode="population"))


def _detectable(one: Mapping[str, Any], halves: tuple[Splits, ...]) -> Row:
    """The AUC that would be noticed in four of five such audits."""
    inside = int(halves[0].member[0].sum())
    outside = halves[0].member.shape[1] - inside
    count = sum(len(split.member) for split in halves)
    # every pair of versions meets twice, as target and as reference: twice the variance of independent ones
    noticed = metrics.detectable_auc(inside, outside, targets=count, correlation=1 / (count - 1))
    about = (one["variant"], one["quantizer"], one["levels"], "", "", "all")
    return Row(*about, "calibration_detectable_auc", Measure(noticed))
