"""The tasks of attacks on canaries: an audit of the mislabelled records alone, with the same models."""

from dataclasses import replace

from bitleak.audit.graph.evaluation_tasks import (
    Models,
    attack_variant,
    choose,
    estimate,
    kinds_of,
    measure_attacks,
    standalone_kind,
    variant_columns,
)
from bitleak.audit.graph.planner import Planner
from bitleak.core.variants import FULL, canaries_of
from bitleak.engine.keys import Task


def canary_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the answers about canaries, the attacks on them, and the tasks that make the rows.

    Adversaries, attacks and thresholds are those of the other records; references, players and
    their non-members are evaluated on canaries alone.
    """
    if planner.config.canaries is None:
        return [], []
    inside = planner.canaries()
    variants = [FULL, *(entry.variant for entry in planner.config.quantize)]
    answers = {}
    for (variant, row), weights in models.weights.items():
        if variant in variants:
            label = f"{variant} of model {row}"
            answers[variant, row] = inside.query(weights, label, test=False)
    on_canaries = replace(models, answers=answers)
    clusters = inside.clusters()
    made = [inside.splits(), *([clusters] if clusters else []), *answers.values()]
    results = []
    for variant in variants:
        attacks, measured = _evaluate(inside, on_canaries, variant)
        made += attacks
        results += measured
    return made, results


def _evaluate(inside: Planner, models: Models, variant: str) -> tuple[list[Task], list[Task]]:
    """Plan the attacks on the canaries of one variant, and its rows."""
    config = inside.config
    kinds = kinds_of(config, variant)
    baseline = estimate(inside, attack_variant(inside, models, FULL, FULL))
    made, results = [baseline], []
    for kind in kinds:
        scores = attack_variant(inside, models, variant, kind)
        thresholds = choose(inside, models, variant, kind)
        made += [scores, thresholds]
        results.append(
            measure_attacks(
                inside,
                variant_columns(config, canaries_of(variant)),
                kind,
                scores=scores,
                baseline=baseline,
                thresholds=thresholds,
                comparisons=len(kinds) * len(scores.params["attacks"]),
                standalone=kind == standalone_kind(config, kinds),
                # population records have right labels: their confidences say nothing about canaries
                population_thresholds=False,
            )
        )
    return made, results
