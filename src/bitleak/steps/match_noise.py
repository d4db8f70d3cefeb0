"""Stages of the utility-matched reading: how much noise costs what quantization does, and networks with that much."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool

from bitleak import metrics
from bitleak.core.seeds import seed_for
from bitleak.core.types import Images, Measure, Outputs, Row, Splits, Weights
from bitleak.core.variants import noise_like
from bitleak.engine.worker import Runtime
from bitleak.metrics import excess_over_best
from bitleak.models.fingerprint import is_external, with_fingerprint
from bitleak.models.weight_noise import noise_for, with_noise
from bitleak.query import logits
from bitleak.stages.measuring import answers_of, plain_rows, rows_of
from bitleak.stages.networks import load_for, ready, spec_of
from bitleak.stages.several import renamed
from bitleak.stages.signature import Artifacts, Params, Progress


def match(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The scale of noise at which the targets are as accurate as in one variant, on records of the pool."""
    data, split = inputs["images"], inputs["splits"]
    for one in params:
        chosen = matching_records(split, one)
        goal = _accuracy(inputs["outputs"], chosen, split, inputs["baseline"])
        if goal.verdict != "lower":
            found = metrics.ScaleMatch(
                scale=0.0, accuracy=goal.value - (goal.difference or 0.0), matched=True, evaluations=0
            )
        else:
            asked = _Asked(data, split, inputs["weights"], chosen, one, runtime, progress)
            found = metrics.matched_scale(
                asked.accuracy,
                goal.value,
                seeds=list(range(len(one["targets"]))),
                low=one["low"],
                high=one["high"],
                tolerance=one["tolerance"],
                evaluations=one["evaluations"],
            )
        yield {"match": {**asdict(found), "goal": goal.value}}


def noise(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """One model with noise of the scale found."""
    weights: Weights = inputs["weights"]
    for one in params:
        drawn = noise_for(weights, _seed(one, one["model"]), allow_external=runtime.network is not None)
        noisy = with_noise(weights, drawn, inputs["match"]["match"]["scale"])
        yield with_fingerprint(noisy, load_for(noisy, runtime)) if is_external(spec_of(noisy)) else noisy


def matched(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Rows of the scale, and of how the accuracies on the test records compare."""
    split, found = inputs["splits"], inputs["match"]["match"]
    labels = inputs["images"].labels[split.test]
    for one in params:
        own, other = (
            {"test_accuracy": tuple(metrics.estimate_proportion(each == labels) for each in answers_of(outputs)[0])}
            for outputs in (inputs["outputs"], inputs["noise"])
        )
        over = excess_over_best(own, [other], mode=split.mode)
        rows = rows_of(one, "", "", one["targets"], renamed(over, "noise"))
        about = (noise_like(one["variant"]), "", None, "", "", "all")
        rows.append(Row(*about, "noise_scale", Measure(found["scale"])))
        rows.append(Row(*about, "noise_accuracy_gap", Measure(found["accuracy"] - found["goal"])))
        yield {"rows": plain_rows(rows)}


def matching_records(split: Splits, one: Mapping[str, Any]) -> Bool[np.ndarray, "targets records"]:
    """At most `records` of each target's own non-members: held out for it, and none of the test records."""
    found = np.zeros((len(one["targets"]), len(split.pool)), bool)
    for place, row in enumerate(one["targets"]):
        outside = np.flatnonzero(~split.member[row])
        order = np.random.default_rng(seed_for(one["seed"], "match", row)).permutation(outside)
        found[place, order[: one["records"]]] = True
    return found


class _Asked:
    """The accuracy of one target at one scale; the noise of each target is drawn once."""

    def __init__(
        self,
        data: Images,
        split: Splits,
        weights: tuple[Weights, ...],
        chosen: Bool[np.ndarray, "targets records"],
        one: Mapping[str, Any],
        runtime: Runtime,
        progress: Progress,
    ) -> None:
        self._data, self._weights, self._batch, self._runtime = data, weights, one["batch"], runtime
        self._records = [split.pool[each] for each in chosen]
        allowed = runtime.network is not None
        rows = zip(weights, one["targets"], strict=True)
        self._noise = [noise_for(of, _seed(one, row), allow_external=allowed) for of, row in rows]
        self._progress, self._most, self._done = progress, one["evaluations"] * len(weights), 0

    def accuracy(self, scale: float, place: int) -> float:
        """Share of the target's records that it classifies correctly."""
        weights, records = self._weights[place], self._records[place]
        spec = spec_of(weights)
        network = ready(load_for(with_noise(weights, self._noise[place], scale), self._runtime), spec)
        asked: dict[str, Any] = {"spec": spec, "batch": self._batch, "device": self._runtime.device}
        found = logits(network, self._data, records, **asked)
        self._done += 1
        self._progress(self._done / self._most)
        return float((found.argmax(axis=1) == self._data.labels[records]).mean())


def _seed(one: Mapping[str, Any], row: int) -> int:
    return seed_for(one["seed"], "noise", row)


def _accuracy(
    outputs: tuple[Outputs, ...],
    chosen: Bool[np.ndarray, "targets records"],
    split: Splits,
    baseline: tuple[Outputs, ...],
) -> Measure:
    """Mean accuracy on the chosen records, compared with full precision."""
    correct, full = (answers_of(found)[1] for found in (outputs, baseline))
    found = metrics.accuracy_on_members(correct, chosen, mode=split.mode, baseline=full)
    return found.aggregate["train_accuracy"]
