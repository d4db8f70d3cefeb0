"""Stages of what else scores and answers say: the baseline's estimates, thresholds that an adversary can have, power by
number of references, memorisation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float64

from bitleak import metrics
from bitleak.attacks import player_view, recalibrated, subset_view
from bitleak.core.errors import TooFewForAttack
from bitleak.core.seeds import seed_for
from bitleak.core.spill import release
from bitleak.core.types import SIGNALS, Images, Splits
from bitleak.engine.worker import Runtime
from bitleak.stages.attacking import applicable, view_of
from bitleak.stages.signature import Artifacts, Params, Progress

RECORDS = 4096
"""Whose answers by all models are looked at together."""


def estimate(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The figures of the targets at full precision, which every variant is compared with."""
    scores, split = inputs["scores"], inputs["splits"]
    member = split.member[scores["targets"]]
    for one in params:
        found = {}
        for index, each in enumerate(scores["attacks"]):
            seed = seed_for(one["seed"], "measure")
            found[each["name"]] = metrics.estimate_metrics(scores["scores"][index], member, fprs=one["fpr"], seed=seed)
            progress((index + 1) / len(scores["attacks"]))
        yield metrics.pack_estimates(found)


def thresholds(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """For every target, attack with references and FPR the threshold that one reference in the target's place gives.

    The target's answers are not among the inputs, and neither the target nor its complement is a reference.
    """
    data: Images = inputs["images"]
    split: Splits = inputs["splits"]
    for one in params:
        answers = dict(zip(one["references"], inputs["references"], strict=True))
        attacks = applicable(one["attacks"], recalibrated=one["recalibrated"], population=len(split.population))
        attacks = [attack for attack in attacks if attack.uses_references]
        found = np.full((len(attacks), len(one["targets"]), len(one["fpr"])), np.nan)
        refused: dict[str, str] = {}
        for place, row in enumerate(one["targets"]):
            stand_in = answers[one["references"][0]]  # in the target's place until a reference takes it
            view = view_of(data, split, row, stand_in, answers, seed=one["seed"])
            chance = np.random.default_rng(seed_for(one["seed"], "player", row))
            try:
                played, member = player_view(view, chance)
            except TooFewForAttack as error:
                refused |= {attack.name: str(error) for attack in attacks}
                continue
            if one["recalibrated"]:
                played = recalibrated(played)
            for index, attack in enumerate(attacks):
                try:
                    scores = attack(played)[~member]
                except TooFewForAttack as error:
                    refused[attack.name] = str(error)
                else:
                    found[index, place] = metrics.thresholds_for(scores, one["fpr"])
            progress((place + 1) / len(one["targets"]))
        yield {"thresholds": found, "attacks": [attack.name for attack in attacks], "refused": refused}


def power(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """AUC and TPR of the attacks with references, by how many of these there are a side."""
    data: Images = inputs["images"]
    split: Splits = inputs["splits"]
    for one in params:
        answers = dict(zip(one["references"], inputs["references"], strict=True))
        attacks = applicable(one["attacks"], recalibrated=False, population=len(split.population))
        attacks = [attack for attack in attacks if attack.uses_references]
        found: dict[tuple[str, int], list[np.ndarray]] = {
            (each["name"], one["counts"][-1]): list(scores)
            for each, scores in zip(inputs["scores"]["attacks"], inputs["scores"]["scores"], strict=True)
        }
        refused: dict[tuple[str, int], str] = {}
        for place, (row, target) in enumerate(zip(one["targets"], inputs["targets"], strict=True)):
            view = view_of(data, split, row, target, answers, seed=one["seed"])
            for count in one["counts"][:-1]:
                few = subset_view(view, count, np.random.default_rng(seed_for(one["seed"], "power", row)))
                for attack in attacks:
                    try:
                        scores = attack(few)
                    except TooFewForAttack as error:
                        refused[attack.name, count] = str(error)
                    else:
                        found.setdefault((attack.name, count), []).append(scores)
            progress((place + 1) / (len(one["targets"]) + 1))
        member = split.member[one["targets"]]
        rows = [
            row
            for attack in attacks
            for count in one["counts"]
            if (attack.name, count) not in refused
            for row in _power_rows(attack.name, count, np.stack(found[attack.name, count]), member, split, one)
        ]
        yield {"rows": rows, "refused": [[*key, reason] for key, reason in refused.items()]}


def memorise(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """How much more confident in each record the models are that were trained on it, at the first query."""
    for one in params:
        member = inputs["splits"].member[one["models"]]
        parts = []
        for start in range(0, member.shape[1], RECORDS):
            block = slice(start, start + RECORDS)
            answers = [_probability(each.signals, block) for each in inputs["outputs"]]
            parts.append(metrics.memorisation(np.stack(answers), member[:, block]))
        yield {
            "mean": np.concatenate([part.mean for part in parts]),
            "error": np.concatenate([part.error for part in parts]),
        }


def _probability(signals: Float64[np.ndarray, "records queries signals"], block: slice) -> np.ndarray:
    """Of the true class, at the first query, of some records; what lies in a file is let go of."""
    found = np.exp(signals[block, 0, SIGNALS.index("log_probability")])
    release(signals)
    return found


def _power_rows(
    attack: str, count: int, scores: np.ndarray, member: np.ndarray, split: Splits, one: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The aggregate and every target, without the balanced accuracy."""
    found = metrics.measure(scores, member, fprs=[one["fpr"]], mode=split.mode, balanced=False)
    rows = []
    for metric, total in found.aggregate.items():
        singles = zip(one["targets"], found.targets[metric], strict=True)
        measures = [("all", total), *((str(row), measure) for row, measure in singles)]
        about = {"attack": attack, "references": count, "metric": metric}
        rows += [{**about, "target": target, "measure": asdict(measure)} for target, measure in measures]
    return rows
