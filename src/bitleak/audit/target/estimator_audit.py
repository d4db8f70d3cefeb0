"""Tiers 1 and 2 of an estimator of rows: others of its kind are fitted, and only their answers kept.

| tier | other estimators | attacks |
|---|---|---|
| 1 | references, fitted on non-members that are not evaluated | offline |
| 2 | shadows, each fitted on a random half of the members and the evaluated others | all forms |

The recipe is `fit` of an unfitted estimator: a clone of the target, or the result of a factory.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from bitleak.audit.target.given_model import opened_store, task_progress
from bitleak.audit.target.reference_networks import drawn_records
from bitleak.audit.target.release_rows import Signals
from bitleak.audit.target.tabular_model import OnStep, StoredProbabilities, TabularRecords
from bitleak.audit.target.target_audit import TargetAudit
from bitleak.audit.target.target_run import Target, audited_target
from bitleak.core.errors import ConfigError, ExecutionError
from bitleak.core.probability_resolution import resolution_of
from bitleak.core.types import Images, Splits
from bitleak.data import held_records
from bitleak.engine.codecs import decoded
from bitleak.engine.execution import run_tasks
from bitleak.engine.executors.serial import Serial
from bitleak.engine.graph import Graph
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime
from bitleak.steps.assign_members import AssignMembers, packed
from bitleak.steps.assign_references import AssignReferences
from bitleak.steps.fit_estimator import FitEstimator
from bitleak.steps.load_images import LoadImages
from bitleak.steps.scale import NetworkSize, Scale
from bitleak.steps.step import planned
from bitleak.train.given_estimator import EstimatorWork, hold_estimator

NEXT_TIER = (
    "Next, tier 2: online attacks. It fits estimators on random halves of the members and the evaluated others: "
    "audit_model(..., tier=2, shadows=64)."
)


def estimator_maker(estimator: Any, factory: Callable[[], Any] | None) -> Callable[[], Any]:
    """Return a function that makes unfitted estimators.

    Args:
        estimator: The target.
        factory: The caller's; None clones the target.

    Raises:
        ConfigError: The target cannot be cloned, or the factory makes no estimator.
    """
    from sklearn.base import clone

    def cloned() -> Any:
        return clone(estimator)

    make = factory or cloned
    try:
        made = make()
    except (TypeError, RuntimeError) as error:
        if factory is not None:
            raise
        raise ConfigError(
            f"factory: {type(estimator).__name__} cannot be cloned ({error}); pass factory=, a function that "
            "returns an unfitted estimator"
        ) from None
    if not (hasattr(made, "fit") and hasattr(made, "predict_proba")):
        raise ConfigError(
            "factory: expected a function that returns an estimator with fit and predict_proba, got "
            f"{type(made).__name__}"
        )
    return make


def audited_estimator(
    target: Target,
    tabular: TabularRecords,
    make: Callable[[], Any],
    *,
    store: str | Path | None,
    on_step: OnStep,
) -> TargetAudit:
    """Return the audit of an estimator in tier 1 or 2.

    Args:
        target: The target with its records.
        tabular: The rows as they came.
        make: Returns an unfitted estimator.
        store: Folder for finished tasks; None keeps them until the end.
        on_step: Called with the fraction done of a stage, and its name.

    Raises:
        ConfigError: The target errs on its own members, or too few records remain.
        ExecutionError: An estimator could not be fitted.
    """
    if target.tier == 2 and (target.plan.count % 2 or target.plan.count < 4):
        raise ConfigError(
            f"shadows: expected an even number from 4, so that halves are halves, got {target.plan.count}"
        )
    # The membership is in the splits, which are known only once the estimators are fitted.
    trained: list[Bool[np.ndarray, "refs records"]] = []

    def answers() -> dict[str, Sequence[Signals]]:
        with opened_store(store) as opened:
            splits, probabilities = _fitted(target, tabular, make, opened, on_step)
        evaluated = np.isin(splits.pool, target.parts.pool)
        if target.tier == 2:
            trained.append(splits.member[1:, evaluated])
        return {"": [_signals(target, splits, values, evaluated) for values in probabilities]}

    audit = audited_target(
        target,
        on_step,
        references=answers,
        trained_on=lambda: trained[0] if trained else None,
    )
    lead = audit.facts.lead[:1] if target.tier == 2 else (*audit.facts.lead[:1], NEXT_TIER)
    return replace(audit, facts=replace(audit.facts, lead=lead))


def _signals(
    target: Target, splits: Splits, values: np.ndarray, evaluated: Bool[np.ndarray, "pool"]
) -> Signals:
    """Return the signals of one estimator, at its own resolution."""
    labels = target.records.labels
    everything = np.full((len(labels), values.shape[1]), np.nan)
    everything[np.concatenate([splits.pool, splits.population])] = values
    stored = StoredProbabilities("reference", everything, resolution_of([values]))
    pool = stored.signals(labels, splits.pool[evaluated])
    return Signals(pool[:, None], stored.signals(labels, splits.population)[:, None])


def _fitted(
    target: Target,
    tabular: TabularRecords,
    make: Callable[[], Any],
    store: Store,
    on_step: OnStep,
) -> tuple[Splits, list[np.ndarray]]:
    """Fit all estimators, or as many as are not in the store; return the splits and their answers."""
    tasks = _tasks(target, tabular, make)
    splits, fits = tasks[1], tasks[2:]
    wanted = [task.key for task in (splits, *fits)]
    report = run_tasks(
        Graph(tasks, wanted=wanted),
        store,
        Serial(store.location, Runtime()),
        on_event=task_progress(on_step, "fitting estimators"),
    )
    if report.failed:
        raise ExecutionError(f"tier {target.tier}: {report.failed[0].text}")
    probabilities = [np.array(store.read(task)["probabilities"]) for task in fits]
    return decoded(store.read(splits)), probabilities


def _tasks(target: Target, tabular: TabularRecords, make: Callable[[], Any]) -> list[Task]:
    """Return the tasks: the records, the membership matrix, and an estimator per row."""
    parts, labels, seed = target.parts, target.records.labels, target.settings.seed
    names, nobody = tuple(map(str, tabular.class_values)), np.zeros(len(labels), bool)
    columns = tuple(map(str, range(tabular.numbers.shape[1])))
    digest = held_records.hold_records(Images(tabular.numbers, labels, names, nobody, columns))
    values = np.asarray(tabular.class_values)[labels]
    work = hold_estimator(EstimatorWork(make, tabular.rows, values, list(tabular.class_values)))
    count, drawn = len(labels), drawn_records(len(parts.members), len(parts.training))
    # In tier 2 each evaluated record is in half of the fits; in tier 1 it is in none.
    step: AssignMembers | AssignReferences
    if target.tier == 2:
        others = np.sort(np.concatenate([parts.evaluated, parts.population]))
        step = AssignMembers(
            records=count,
            members=packed(parts.members, count),
            others=packed(others, count),
            calibration=0,
            population=len(parts.population),
            test=0,
            shadows=target.plan.count,
            seed=seed,
        )
    else:
        step = AssignReferences(
            records=count,
            members=packed(parts.members, count),
            evaluated=packed(parts.evaluated, count),
            training=packed(parts.training, count),
            population=packed(parts.population, count),
            references=target.plan.count,
            drawn=drawn,
            seed=seed,
        )
    scale = _scale(target, tabular, drawn)
    name = f"{held_records.__name__}:GivenRows"
    load = LoadImages(name, {"digest": digest}, None, None, digest, seed)
    images = planned(load, {}, scale, "rows")
    splits = planned(step, {"images": images.key}, scale, "training records of the estimators")
    tasks = [images, splits]
    for row in range(1, 1 + target.plan.count):
        fit = FitEstimator(row, work, seed)
        tasks.append(planned(fit, {"splits": splits.key}, scale, f"fit estimator {row}"))
    return tasks


def _scale(target: Target, tabular: TabularRecords, drawn: int) -> Scale:
    parts = target.parts
    pool = len(parts.members) + len(parts.evaluated) + len(parts.training)
    return Scale(
        images=len(tabular.labels),
        pixels=tabular.numbers.shape[1],
        value_bytes=4,
        pool=pool,
        members=pool // 2 if target.tier == 2 else drawn,
        calibration=0,
        population=len(parts.population),
        test=0,
        models=1 + target.plan.count,
        targets=1,
        references=target.plan.count,
        queries=1,
        attacks=0,
        classes=len(tabular.class_values),
        network=NetworkSize(1, 1, ()),
        rate=1.0,
    )
