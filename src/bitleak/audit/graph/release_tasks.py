"""The tasks of the adversary who sees several releases of one target."""

from collections.abc import Sequence

from bitleak.audit.graph.evaluation_tasks import (
    Models,
    answer_scale,
    compare,
    estimate,
    measure_attacks,
    variant_columns,
)
from bitleak.audit.graph.planner import Planner
from bitleak.core.variants import FULL, joined
from bitleak.engine.keys import Task
from bitleak.steps.attack_releases import AttackReleases


def release_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the joint attack on every set of releases and on each release alone, and its rows.

    A release alone has its rows once, however many sets it is in. Full precision always has them,
    since the others are compared with it.
    """
    sets = planner.config.joint
    if not sets:
        return [], []
    baseline = estimate(planner, joint_attack(planner, models, (FULL,)))
    attacks, results = [], []
    # The gain of a set is over its best release alone, attacked by the same joint attack.
    alone = {FULL: None}
    for releases in sets:
        alone |= dict.fromkeys(releases)
    singles = [(name,) for name in alone]
    for releases in [*singles, *sets]:
        attack = joint_attack(planner, models, releases)
        columns = variant_columns(planner.config, joined(releases))
        reference = FULL if columns.variant == FULL else "matched"
        attacks += [attack, baseline] if releases == (FULL,) else [attack]
        results.append(
            measure_attacks(
                planner, columns, reference, scores=attack, baseline=baseline, standalone=False
            )
        )
        if len(releases) > 1:
            single_attacks = [joint_attack(planner, models, (name,)) for name in releases]
            results.append(
                compare(
                    planner, columns, reference, scores=attack, others=single_attacks, over="best"
                )
            )
    return attacks, results


def joint_attack(planner: Planner, models: Models, releases: Sequence[str]) -> Task:
    """Plan the joint attack on all targets."""
    targets: list[str] = []
    references: list[str] = []
    for name in releases:
        targets += models.target_keys(name)
        references += models.reference_keys(name)
    step = AttackReleases(
        releases=len(releases),
        targets=models.targets,
        references=models.references,
        seed=planner.config.seed,
        answer_scale=answer_scale(planner.config),
    )
    inputs = {"targets": tuple(targets), "references": tuple(references), **planner.data()}
    return planner.task(step, inputs, f"attack {joined(releases)} by joint")
