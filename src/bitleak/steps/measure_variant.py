"""Stages that make rows: what scores say about membership, and what a variant costs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import SIGNALS, Measure, Outputs, Row, Splits
from bitleak.engine.worker import Runtime
from bitleak.metrics.accuracy_and_size import weights_size
from bitleak.stages.signature import Artifacts, Params, Progress


def measure(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The rows and curves of one variant by one kind of reference."""
    scores, baseline, split = inputs["scores"], inputs["baseline"], inputs["splits"]
    targets = scores["targets"]
    member = split.member[targets]
    for one in params:
        rows: list[Row] = []
        curves: dict[str, np.ndarray] = {}
        for index, each in enumerate(scores["attacks"]):
            if not each["references"] and not one["standalone"]:
                continue
            reference = one["reference"] if each["references"] else ""
            about = (one, each["name"], reference, targets)
            each_curve = [metrics.roc(*pair) for pair in zip(scores["scores"][index], member, strict=True)]
            at_fp32 = metrics.unpack_estimates(baseline, each["name"])
            if (one["variant"], one["reference"]) == ("fp32", "fp32"):
                found = metrics.measures_from(at_fp32, mode=split.mode)
            else:
                estimates = metrics.estimate_from_curves(
                    each_curve, fprs=one["fpr"], seed=seed_for(one["seed"], "measure")
                )
                found = metrics.measures_from(estimates, mode=split.mode, baseline=at_fp32)
            rows += rows_of(*about, found)
            rows += _shown(*about, _chosen(one, inputs, index, member))
            epsilon = metrics.epsilon_measures(
                scores["scores"][index],
                member,
                seed=seed_for(one["seed"], "epsilon"),
                delta=one["delta"],
                comparisons=one["comparisons"],
            )
            rows += _shown(*about, epsilon)
            further = metrics.further_measures(one.get("metrics", ()), scores["scores"][index], member, mode=split.mode)
            rows += _shown(*about, further)
            name = f"{each['name']}/{reference}"
            curves |= {
                f"{name}/{row}": metrics.thin_curve(curve) for row, curve in zip(targets, each_curve, strict=True)
            }
            curves[f"{name}/all"] = metrics.mean_curve(each_curve)
            progress((index + 1) / len(scores["attacks"]))
        yield {"rows": plain_rows(rows), "curves": curves}


def weigh(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """What one set of weights takes; apart, so that rows can be made of answers brought without weights."""
    weights = inputs["weights"]
    repeated: frozenset[str] = frozenset()
    if weights.spec is not None and weights.spec.name == "external":  # networks of this package share no tensor
        from bitleak.models import build
        from bitleak.models.network_size import repeated_names

        repeated = repeated_names(build(weights.spec, seed=0))
    for _ in params:
        yield {name: float(value) for name, value in weights_size(weights, repeated=repeated).items()}


def utility(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Accuracy, agreement with full precision and size of one variant."""
    split: Splits = inputs["splits"]
    labels = inputs["images"].labels[split.test]
    for one in params:
        member = split.member[one["targets"]]
        predicted, correct = answers_of(inputs["outputs"])
        own = one["variant"] == "fp32"
        full, full_correct = (None, None) if own else answers_of(inputs["baseline"])
        found = metrics.accuracy_on_test(predicted, labels, mode=split.mode, baseline=full)
        found |= metrics.accuracy_on_members(correct, member, mode=split.mode, baseline=full_correct)
        if full is not None:
            found |= metrics.agreement(predicted, full, mode=split.mode)
        rows = rows_of(one, "", "", one["targets"], found)
        rows += _size_rows(one, inputs["sizes"])
        yield {"rows": plain_rows(rows)}


def plain_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as the store takes them; a tenth of the time of `dataclasses.asdict`, which copies every text."""
    return [{**vars(row), "measure": dict(vars(row.measure))} for row in rows]


def answers_of(found: Sequence[Outputs]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of the test records, and which pool records are classified correctly, by target."""
    correct = [answer.signals[:, 0, SIGNALS.index("correct")] for answer in found]
    return np.stack([answer.test_predictions for answer in found]), np.stack(correct)


def rows_of(about: Mapping[str, Any], attack: str, reference: str, targets: Sequence[int], found: Any) -> list[Row]:
    """Rows of every metric: the mean over the targets first, then target by target."""
    head = (about["variant"], about["quantizer"], about["levels"], attack, reference)
    rows = []
    for metric, total in found.aggregate.items():
        rows.append(Row(*head, "all", metric, total))
        singles = zip(targets, found.targets[metric], strict=True)
        rows += [Row(*head, str(row), metric, one) for row, one in singles]
    return rows


def _chosen(
    one: Mapping[str, Any], inputs: Mapping[str, Any], index: int, member: np.ndarray
) -> metrics.TotalAndTargets:
    """Rates and precision at the thresholds that an adversary could have chosen; none for the control."""
    scores = inputs["scores"]
    attack = scores["attacks"][index]
    if "thresholds" not in inputs:
        return {}
    if attack["references"]:
        place = inputs["thresholds"]["attacks"].index(attack["name"])
        chosen = inputs["thresholds"]["thresholds"][place]  # (targets, fprs)
    else:
        place = sum(not each["references"] for each in scores["attacks"][:index])
        chosen = np.stack([metrics.thresholds_for(own, one["fpr"]) for own in scores["population"][place]])
    options = {"fprs": one["fpr"], "priors": one["priors"], "mode": inputs["splits"].mode}
    return metrics.measure_at_thresholds(scores["scores"][index], member, chosen, **options)


def _shown(
    about: Mapping[str, Any], attack: str, reference: str, targets: Sequence[int], found: metrics.TotalAndTargets
) -> list[Row]:
    """Rows of every metric, where there is such a figure."""
    head = (about["variant"], about["quantizer"], about["levels"], attack, reference)
    names = ["all", *map(str, targets)]
    rows = []
    for metric, measures in found.items():
        pairs = zip(names, measures, strict=True)
        rows += [Row(*head, name, metric, measure) for name, measure in pairs if measure is not None]
    return rows


def _size_rows(about: Mapping[str, Any], measured: Sequence[Mapping[str, float]]) -> list[Row]:
    head = (about["variant"], about["quantizer"], about["levels"], "", "")
    rows = []
    for metric in measured[0]:
        values = [float(one[metric]) for one in measured]
        rows.append(Row(*head, "all", metric, Measure(math.fsum(values) / len(values))))
        rows += [Row(*head, str(row), metric, Measure(v)) for row, v in zip(about["targets"], values, strict=True)]
    return rows
