"""The tasks of fewer references, and of single records."""

from bitleak.attacks import attack_entries
from bitleak.audit.graph.evaluation_tasks import Models, answer_scale, attack_variant
from bitleak.audit.graph.planner import Planner
from bitleak.audit.graph.record_counts import references_per_side
from bitleak.core.variants import FULL
from bitleak.engine.keys import Task
from bitleak.metrics import doubling_counts, headline_fpr
from bitleak.steps.measure_memorisation import MeasureMemorisation
from bitleak.steps.measure_power import POWER_TARGETS, MeasurePower
from bitleak.steps.step import InputKeys


def power(planner: Planner, models: Models) -> Task:
    """Plan the attacks at full precision with fewer references, on the first targets."""
    config, scale = planner.config, planner.scale
    targets = models.targets[:POWER_TARGETS]
    step = MeasurePower(
        attacks=tuple(attack_entries(config.attacks)),
        targets=targets,
        references=models.references,
        counts=tuple(doubling_counts(references_per_side(config))),
        fpr=headline_fpr(config.fpr, scale.pool - scale.members),
        seed=config.seed,
        answer_scale=answer_scale(config),
    )
    inputs = {
        "scores": attack_variant(planner, models, FULL, FULL).key,
        "targets": tuple(models.answers[FULL, row].key for row in targets),
        "references": models.reference_keys(FULL),
        **planner.data(),
        **planner.clustered(),
    }
    return planner.task(step, inputs, "power by number of references")


def memorisation_task(planner: Planner, models: Models, variant: str) -> Task:
    """Plan the memorisation of every record by the models of a variant."""
    rows = tuple(row for name, row in models.answers if name == variant)
    inputs: InputKeys = {
        "outputs": tuple(models.answers[variant, row].key for row in rows),
        "splits": planner.splits().key,
    }
    return planner.task(MeasureMemorisation(models=rows), inputs, f"memorisation of {variant}")
