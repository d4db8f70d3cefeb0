"""The tasks of the adversary who sees several releases of one target."""

from collections.abc import Sequence

from bitleak.core.variants import FULL, joined
from bitleak.engine.keys import Task
from bitleak.plan.evaluation import Models, compare, estimate, measure, named
from bitleak.plan.tasks import Tasks


def joint_tasks(tasks: Tasks, models: Models) -> tuple[list[Task], list[Task]]:
    """Attack tasks and result tasks of every set of releases, and of every release alone by the same attack.

    A release alone has its rows once, however many sets it is in; full precision has them always, being what the
    others are compared with.
    """
    sets = tasks.config.joint
    if not sets:
        return [], []
    baseline = estimate(tasks, models, joint_attack(tasks, models, (FULL,)))
    attacks, results = [], []
    alone = dict.fromkeys([FULL, *[name for releases in sets for name in releases]])
    for releases in [*[(name,) for name in alone], *sets]:
        attack = joint_attack(tasks, models, releases)
        variant = joined(releases)
        reference = FULL if variant == FULL else "matched"
        about = {"variant": variant, **named(tasks.config, variant)}
        attacks += [attack, baseline] if releases == (FULL,) else [attack]
        results.append(measure(tasks, models, about, reference, scores=attack, baseline=baseline, standalone=False))
        if len(releases) > 1:
            others = [joint_attack(tasks, models, (name,)) for name in releases]
            results.append(compare(tasks, models, about, reference, scores=attack, others=others, over="best"))
    return attacks, results


def joint_attack(tasks: Tasks, models: Models, releases: Sequence[str]) -> Task:
    """The scores of the joint attack on all targets."""
    params = {
        "releases": len(releases),
        "targets": list(models.targets),
        "references": list(models.references),
        "seed": tasks.config.seed,
    }
    inputs = {
        "targets": tuple(models.answers[name, row].key for name in releases for row in models.targets),
        "references": tuple(models.answers[name, row].key for name in releases for row in models.references),
        **tasks.data(),
    }
    read = len(models.targets) * len(models.references) * tasks.sizes.pool * len(tasks.config.query.augment)
    return tasks.task("joint", params, inputs, f"attack {joined(releases)} by joint", 1e-7 * len(releases) * read)
