"""The influences of records on the figures of answers made elsewhere."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from bitleak.answers.attack_design import MODE
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.attack_run import AttackOutcome
from bitleak.answers.target_views import Case
from bitleak.core.metric_names import TEST_ACCURACY
from bitleak.core.types import Measure, Row
from bitleak.core.variants import FULL
from bitleak.metrics import Estimate, estimate_proportion, verdict_about
from bitleak.report import (
    FigureKey,
    Influences,
    Summary,
    adversary_columns,
    cluster_digests,
    figure_columns,
    record_digests,
)


def answer_influences(
    prepared: PreparedAttack, outcome: AttackOutcome, rows: Sequence[Row], summary: Summary
) -> Influences:
    """Return the figures that two runs are compared by, with every record's influence on them.

    The records' content is not known, so that the number of a record and its label stand for it.
    """
    design, clusters = prepared.design, prepared.clusters
    targets = design.targets
    member = design.member[list(targets)]

    def scores_of(cell: tuple[str, str, str], place: int) -> Float64[np.ndarray, "records"]:
        return np.asarray(outcome.scores[_case_of(outcome, cell)].of(cell[1])[place])

    # Figures of the attacks, then the accuracy of every variant.
    columns = adversary_columns(
        rows,
        (summary.headline_attack, summary.headline_reference),
        scores_of,
        member,
        targets=targets,
        fprs=prepared.fprs,
        mode=MODE,
        clusters=clusters,
    )
    for variant, correct in outcome.correct.items():
        columns |= _accuracy_columns(prepared, rows, variant, correct)
    # Digests of labels and numbers pair the records of two runs.
    digests = _digests(prepared)
    return Influences(
        about=verdict_about(MODE, len(targets)),
        models=_models(prepared, outcome, digests),
        records={"pool": cluster_digests(digests, clusters)},
        figures=columns,
    )


def _case_of(outcome: AttackOutcome, cell: tuple[str, str, str]) -> Case:
    """Return the case that has the scores of an attack; one without references is in one case."""
    variant, attack, reference = cell
    for case, scores in outcome.scores.items():
        names = [label.name for label in scores.attacks]
        if case.variant == variant and attack in names and reference in ("", case.reference):
            return case
    raise KeyError(f"no scores of {attack} with {reference or 'no'} references on {variant}")


def _accuracy_columns(
    prepared: PreparedAttack,
    rows: Sequence[Row],
    variant: str,
    correct: Float64[np.ndarray, "targets records"],
) -> dict[FigureKey, Estimate]:
    """Return the columns of the accuracy of one variant on the targets' own non-members."""
    measures: dict[str, Measure] = {}
    for row in rows:
        if (row.variant, row.attack, row.metric) == (variant, "", str(TEST_ACCURACY)):
            measures[row.target] = row.measure
    estimates = []
    for right, member in zip(
        correct, prepared.design.member[list(prepared.design.targets)], strict=True
    ):
        estimates.append(estimate_proportion(right > 0.5, ~member, prepared.clusters))
    return figure_columns(
        (variant, "", ""), str(TEST_ACCURACY), estimates, measures,
        targets=prepared.design.targets, mode=MODE,
    )  # fmt: skip


def _digests(prepared: PreparedAttack) -> tuple[str, ...]:
    numbers = prepared.answers.numbered(prepared.design.records).tolist()
    labels = prepared.labels.tolist()
    contents = []
    for number, label in zip(numbers, labels, strict=True):
        contents.append(f"{number} {label}".encode())
    return record_digests(contents)


def _models(
    prepared: PreparedAttack, outcome: AttackOutcome, digests: Sequence[str]
) -> tuple[str, ...]:
    """Return digests of the targets' names, members and, if answers show it, right predictions."""
    design = prepared.design
    names, facts = [], []
    for place, target in enumerate(design.targets):
        names.append(prepared.answers.names[target].encode())
        fact = design.member[target].tobytes()
        if FULL in outcome.correct:
            fact += (outcome.correct[FULL][place] > 0.5).tobytes()
        facts.append(fact)
    return record_digests(names, facts, ["".join(digests).encode()] * len(names))
