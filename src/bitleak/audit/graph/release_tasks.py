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
from bitleak.core.variants import FULL, JOINT, joined
from bitleak.engine.keys import Task
from bitleak.steps.attack_releases import AttackReleases


def release_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan each joint attack on every set of releases and on each release alone, and its rows.

    A release alone has its rows once, however many sets it is in. Full precision always has them,
    since the others are compared with it.
    """
    attacks: list[Task] = []
    results: list[Task] = []
    for name in planner.config.joint_attacks if planner.config.joint else ():
        made, measured = _tasks_of(planner, models, name)
        attacks += made
        results += measured
    return attacks, results


def _tasks_of(planner: Planner, models: Models, name: str) -> tuple[list[Task], list[Task]]:
    """Plan one joint attack on all sets and single releases, and its rows."""
    sets = planner.config.joint
    baseline = estimate(planner, joint_attack(planner, models, (FULL,), name))
    attacks, results = [], []
    # The gain of a set is over its best release alone, attacked by the same joint attack.
    alone = {FULL: None}
    for releases in sets:
        alone |= dict.fromkeys(releases)
    singles = [(release,) for release in alone]
    for releases in [*singles, *sets]:
        attack = joint_attack(planner, models, releases, name)
        columns = variant_columns(planner.config, joined(releases))
        reference = FULL if columns.variant == FULL else "matched"
        attacks += [attack, baseline] if releases == (FULL,) else [attack]
        results.append(
            measure_attacks(
                planner, columns, reference, scores=attack, baseline=baseline, standalone=False
            )
        )
        if len(releases) > 1:
            single_attacks = []
            for release in releases:
                single_attacks.append(joint_attack(planner, models, (release,), name))
            results.append(
                compare(
                    planner, columns, reference, scores=attack, others=single_attacks, over="best"
                )
            )
    return attacks, results


def joint_attack(
    planner: Planner, models: Models, releases: Sequence[str], attack: str = JOINT
) -> Task:
    """Plan a joint attack on all targets.

    Args:
        planner: Plans the task.
        models: The models of the audit.
        releases: Variants that are seen together.
        attack: Name of the attack in the registry's `JOINT_ATTACKS`.
    """
    targets: list[str] = []
    references: list[str] = []
    for release in releases:
        targets += models.target_keys(release)
        references += models.reference_keys(release)
    step = AttackReleases(
        releases=len(releases),
        targets=models.targets,
        references=models.references,
        seed=planner.config.seed,
        answer_scale=answer_scale(planner.config),
        attack=attack,
    )
    inputs = {"targets": tuple(targets), "references": tuple(references), **planner.data()}
    return planner.task(step, inputs, f"attack {joined(releases)} by {attack}")
