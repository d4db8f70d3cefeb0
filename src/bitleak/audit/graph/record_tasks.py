"""The tasks of what else an audit says: see `bitleak.stages.statistics`."""

from bitleak.engine.keys import Task
from bitleak.metrics import doubling_counts, headline_fpr
from bitleak.plan.evaluation import Models, attack, attack_names
from bitleak.plan.tasks import Tasks


def power(tasks: Tasks, models: Models) -> Task:
    """How well the attacks do at full precision with fewer references."""
    config, sizes = tasks.config, tasks.sizes
    counts = doubling_counts(per_side(tasks))
    params = {
        "attacks": attack_names(config),
        "targets": list(models.targets),
        "references": list(models.references),
        "counts": counts,
        "fpr": headline_fpr(config.fpr, sizes.pool - sizes.members),
        "seed": config.seed,
    }
    scores = attack(tasks, models, "fp32", "fp32")
    inputs = {
        "scores": scores.key,
        "targets": tuple(models.answers["fp32", row].key for row in models.targets),
        "references": tuple(models.answers["fp32", row].key for row in models.references),
        **tasks.data(),
    }
    share = sum(counts[:-1]) / counts[-1]
    cost = share * scores.cost + 4e-5 * len(models.targets) * sizes.pool * len(counts)
    return tasks.task("power", params, inputs, "power by number of references", cost)


def memorisation(tasks: Tasks, models: Models, variant: str) -> Task:
    """What the models of a variant make of records that they were, and were not, trained on."""
    rows = [row for name, row in models.answers if name == variant]
    inputs = {"outputs": tuple(models.answers[variant, row].key for row in rows), "splits": tasks.splits().key}
    cost = 4e-9 * len(rows) * tasks.sizes.pool + 0.02
    return tasks.task("memorise", {"models": rows}, inputs, f"memorisation of {variant}", cost)


def per_side(tasks: Tasks) -> int:
    """References a side of every record."""
    split = tasks.config.split
    return (split.models - 2) // 2 if split.mode == "population" else split.shadows // 2
