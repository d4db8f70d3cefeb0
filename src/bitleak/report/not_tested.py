"""The adversaries and questions that an audit did not try, in sentences, so that none is taken for safe."""

from bitleak import registry
from bitleak.core.metric_names import Metric
from bitleak.core.variants import FULL, JOINT, question_of
from bitleak.metrics import why_unmeasurable
from bitleak.report import format as text
from bitleak.report.headline import headline_key
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

ALWAYS = (
    "Adversaries who hold the weights, the gradients or checkpoints of the training; the attacks here "
    "see only the scores of the classes.",
    "Adversaries who plant records in the training set or choose what it is trained on.",
    "Other questions than membership: reconstruction of records, properties of the training set, "
    "attributes of a person.",
)


def not_tested(table: Table, summary: Summary) -> tuple[str, ...]:
    """Return the adversaries and questions not tried, most relevant first; figures left out come last.

    Args:
        table: The aggregated rows.
        summary: Names the FPRs and the figures that were left out.
    """
    lines = _references(table, summary)
    measure = table.find(
        table.quantized[0] if table.quantized else FULL,
        Metric("tpr", summary.headline_fpr),
        *headline_key(table, summary),
    )
    if measure is None or measure.about != "trainings":
        lines.append("Other trainings: the same recipe with another seed may leak more or less.")
    lines += [*ALWAYS[:1], *_questions(table), *ALWAYS[1:], *_attacks(table)]
    for fpr in summary.fprs:
        reason = why_unmeasurable(fpr, summary.non_members)
        if reason:
            lines.append(f"Fewer false accusations: {reason}.")
    return tuple(lines)


def _attacks(table: Table) -> list[str]:
    """Return the built-in attacks of which no form was run."""
    missing = []
    for name in sorted(set(registry.ATTACKS) - {"signals"}):
        if not any(attack == name or attack.startswith(f"{name}-") for attack in table.attacks):
            missing.append(name)
    if not missing:
        return []
    return [f"Attacks of bitleak that were not run: {text.listed(sorted(missing))}."]


def _references(table: Table, summary: Summary) -> list[str]:
    present: set[str] = set()
    for attack in table.attacks:
        present.update(table.references(attack))
    if not present - {""}:
        return ["Adversaries who train reference models of their own; they usually find more."]
    if table.quantized and "matched" not in present:
        return [
            "An adversary who quantizes reference models as the target is (matched references)."
        ]
    return []


def _questions(table: Table) -> list[str]:
    questions = {question_of(variant, attack) for variant, attack, _, _ in table.cells}
    lines = []
    if table.quantized and JOINT not in questions:
        lines.append(
            "An adversary who sees several releases of one model, such as both precisions."
        )
    if table.quantized and "calibration" not in questions:
        lines.append("Whether a record was in the set that the quantizer was calibrated on.")
    return lines
