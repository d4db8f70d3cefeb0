"""The stage that attacks answers, and what an attack on one target may see."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bitleak.attacks import (
    RECALIBRATED_SIGNALS,
    Attack,
    attack_view,
    expand,
    negative_control,
    population_view,
    recalibrated,
)
from bitleak.core.seeds import seed_for
from bitleak.core.spill import stack_arrays
from bitleak.core.types import AttackView, Images, Outputs, Splits
from bitleak.data.splits import references
from bitleak.engine.worker import Runtime
from bitleak.stages.signature import Artifacts, Params, Progress


def attack(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The scores of every attack on every target of one variant, by one kind of reference.

    Of attacks without references also those of the population records, which a threshold can be set on.
    """
    split: Splits = inputs["splits"]
    for one in params:
        answers = dict(zip(one["references"], inputs["references"], strict=True))
        attacks = applicable(one["attacks"], recalibrated=one["recalibrated"], population=len(split.population))
        found, outside = [], []
        for done, (row, target) in enumerate(zip(one["targets"], inputs["targets"], strict=True)):
            view = view_of(inputs["images"], split, row, target, answers, seed=one["seed"])
            if one["control"]:
                view = negative_control(view, np.random.default_rng(seed_for(one["seed"], "control", row)))
            if one["recalibrated"]:
                view = recalibrated(view)
            found.append([each(view) for each in attacks])
            outside.append([each(population_view(view)) for each in attacks if not each.uses_references])
            progress((done + 1) / len(one["targets"]))
        yield {
            "scores": np.array(found).swapaxes(0, 1),  # (attacks, targets, records)
            "population": np.array(outside).swapaxes(0, 1),  # (attacks without references, targets, population)
            "attacks": [{"name": each.name, "references": each.uses_references} for each in attacks],
            "targets": list(one["targets"]),
        }


def applicable(names: Sequence[str], *, recalibrated: bool, population: int) -> list[Attack]:
    """The attacks that config entries stand for, each once: those that so many population records are enough for, and
    of a recalibrated view only those that it serves.
    """
    attacks = dict.fromkeys(attack for name in names for attack in expand(name))
    fed = [attack for attack in attacks if attack.fewest_population <= population]
    if not recalibrated:
        return fed
    return [attack for attack in fed if attack.uses_references and attack.signal in RECALIBRATED_SIGNALS]


def view_of(
    data: Images, split: Splits, row: int, target: Outputs, answers: Mapping[int, Outputs], *, seed: int
) -> AttackView:
    """What an attack on one target may see: its answers and its references', and no membership of its own."""
    rows, use = references(split, row, seed=seed)
    found = [answers[reference] for reference in rows.tolist()]
    return attack_view(
        target=target.signals,
        references=stack_arrays([answer.signals for answer in found]),
        member=split.member[rows],
        use=use,
        population_target=target.population_signals,
        population_references=stack_arrays([answer.population_signals for answer in found]),
        labels=data.labels[split.pool],
    )
