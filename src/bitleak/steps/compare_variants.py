"""Stages that look at several releases of a target: the joint attack, and how far a variant lies over others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bitleak import metrics
from bitleak.attacks import Joint
from bitleak.core.seeds import seed_for
from bitleak.core.types import Measure, Outputs, Row
from bitleak.engine.worker import Runtime
from bitleak.stages.attacking import view_of
from bitleak.stages.measuring import plain_rows, rows_of
from bitleak.stages.signature import Artifacts, Params, Progress


def joint(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The scores of the joint attack on every target."""
    data, split = inputs["images"], inputs["splits"]
    for one in params:
        targets = _by_release(inputs["targets"], one["releases"])
        references = _by_release(inputs["references"], one["releases"])
        answers = [dict(zip(one["references"], of, strict=True)) for of in references]
        found = []
        for place, row in enumerate(one["targets"]):
            releases = zip(targets, answers, strict=True)
            views = [view_of(data, split, row, of[place], by, seed=one["seed"]) for of, by in releases]
            found.append(Joint()(views))
            progress((place + 1) / len(one["targets"]))
        yield {
            "scores": np.array(found)[None],  # (attacks, targets, records)
            "attacks": [{"name": Joint().name, "references": True}],
            "targets": list(one["targets"]),
        }


def compare(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Rows of how far every attack's figures lie over the best of others'."""
    scores, split = inputs["scores"], inputs["splits"]
    member = split.member[scores["targets"]]
    for one in params:
        rows: list[Row] = []
        for index, each in enumerate(scores["attacks"]):
            if not each["references"] and not one["standalone"]:
                continue
            found = metrics.excess(
                scores["scores"][index],
                [_scores_of(other, each["name"]) for other in inputs["others"]],
                member,
                fprs=one["fpr"],
                mode=split.mode,
                seed=seed_for(one["seed"], "measure"),
            )
            reference = one["reference"] if each["references"] else ""
            rows += rows_of(one, each["name"], reference, scores["targets"], renamed(found, one["over"]))
            progress((index + 1) / len(scores["attacks"]))
        yield {"rows": plain_rows(rows)}


def _by_release(answers: Sequence[Outputs], releases: int) -> list[Sequence[Outputs]]:
    """Answers release by release, of a flat list in that order."""
    count = len(answers) // releases
    return [answers[start : start + count] for start in range(0, len(answers), count)]


def _scores_of(found: Mapping[str, Any], name: str) -> np.ndarray:
    names = [each["name"] for each in found["attacks"]]
    return found["scores"][names.index(name)]


def renamed(found: metrics.Measures, over: str) -> metrics.Measures:
    """The metrics with their names in the table, such as `auc_over_best`."""

    def name(metric: str) -> str:
        return f"{metric}_over_{over}"

    targets: dict[str, tuple[Measure, ...]] = {name(metric): each for metric, each in found.targets.items()}
    return metrics.Measures(targets, {name(metric): total for metric, total in found.aggregate.items()})
