"""The influences of an audit's records on its figures, from a store in which all tasks are done."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from bitleak.audit.exposed_records import decoded_result
from bitleak.audit.graph.evaluation_tasks import standalone_kind
from bitleak.audit.preparation import Prepared
from bitleak.core.metric_names import TEST_ACCURACY
from bitleak.core.types import Images, Row, Splits
from bitleak.core.variants import FULL
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.metrics import Estimate, dense_clusters, estimate_proportion, verdict_about
from bitleak.report import (
    FigureKey,
    Influences,
    Summary,
    adversary_columns,
    cluster_digests,
    figure_columns,
    record_digests,
)
from bitleak.steps.attack_targets import AttackScores
from bitleak.steps.find_copies import Groups
from bitleak.steps.measure_utility import MeasureUtility, answers_of


def audit_influences(
    prepared: Prepared,
    store: Store,
    rows: Sequence[Row],
    summary: Summary,
    *,
    images: Images,
    splits: Splits,
    groups: Groups | None,
) -> Influences:
    """Return the figures that two audits are compared by, with every record's influence on them."""
    targets, mode = prepared.plan.targets, prepared.config.split.mode
    clusters = dense_clusters(groups)

    @lru_cache(maxsize=len(prepared.config.references) + 1)
    def scores_by(variant: str, kind: str) -> AttackScores:
        return AttackScores.read(store.read_key(prepared.plan.scores[variant, kind]))

    def scores_of(cell: tuple[str, str, str], place: int) -> Float64[np.ndarray, "records"]:
        variant, attack, reference = cell
        kinds = [kind for name, kind in prepared.plan.scores if name == variant]
        kind = reference if reference in kinds else standalone_kind(prepared.config, kinds)
        return np.asarray(scores_by(variant, kind).of(attack)[place])

    # Figures of the attacks, then the accuracies, which their tasks measured.
    columns = adversary_columns(
        rows,
        (summary.headline_attack, summary.headline_reference),
        scores_of,
        splits.member[list(targets)],
        targets=targets,
        fprs=prepared.config.fpr,
        mode=mode,
        clusters=clusters,
    )
    tasks = {task.key: task for task in prepared.plan.tasks}
    utilities = []
    for key in prepared.plan.results:
        if tasks[key].stage == MeasureUtility.STAGE:
            utilities.append(tasks[key])
    for task in utilities:
        columns |= _accuracy_columns(task, store, tasks, rows, images, splits)
    # Digests of the images pair the records of two audits.
    digests = _digests(images, splits.pool)
    return Influences(
        about=verdict_about(mode, len(targets)),
        models=_models(utilities, tasks),
        records={
            "pool": cluster_digests(digests, clusters),
            "test": _digests(images, splits.test),
        },
        figures=columns,
    )


def _accuracy_columns(
    task: Task,
    store: Store,
    tasks: dict[str, Task],
    rows: Sequence[Row],
    images: Images,
    splits: Splits,
) -> dict[FigureKey, Estimate]:
    """Return the columns of the test accuracy of one variant."""
    outputs = [decoded_result(store, tasks[key]) for key in task.inputs["outputs"]]
    predicted, _ = answers_of(outputs)
    correct = predicted == images.labels[splits.test]
    variant, metric = task.params["variant"], str(TEST_ACCURACY)
    measures = {}
    for row in rows:
        if (row.variant, row.attack, row.metric) == (variant, "", metric):
            measures[row.target] = row.measure
    return figure_columns(
        (variant, "", ""),
        metric,
        [estimate_proportion(of_target) for of_target in correct],
        measures,
        targets=task.params["targets"],
        mode=splits.mode,
        part="test",
    )


def _models(utilities: Sequence[Task], tasks: dict[str, Task]) -> tuple[str, ...]:
    """Return the keys of the targets' weights at full precision, which stand for the models."""
    models = []
    for task in utilities:
        if task.params["variant"] == FULL:
            for key in task.inputs["outputs"]:
                models.append(str(tasks[key].inputs["weights"]))
    return tuple(models)


def _digests(images: Images, records: np.ndarray) -> tuple[str, ...]:
    """Return the digest of each record's label and pixels, or columns."""
    labels = (str(label).encode() for label in images.labels[records].tolist())
    return record_digests(labels, (images.pixels[record].tobytes() for record in records))
