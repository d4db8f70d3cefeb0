"""From scores to the rows, curves and summary of a report."""

import platform
from collections.abc import Callable, Mapping
from importlib import metadata

import numpy as np

from bitleak import metrics
from bitleak.answers.attack_preparation import Prepared
from bitleak.answers.attack_run import Attacked
from bitleak.answers.attack_statistics import DELTA, PRIORS, source_of
from bitleak.answers.attack_tables import MODE, curves_of, lines
from bitleak.answers.class_membership import told, warning, within_rows
from bitleak.answers.joint_releases import joint_rows
from bitleak.answers.target_views import CONTROL, FULL, QUANTIZED, Case
from bitleak.attacks import Attack
from bitleak.core.seeds import seed_for
from bitleak.core.text import printable
from bitleak.core.types import Row
from bitleak.metrics import Estimates, Measures
from bitleak.report import RocCurve, Summary, headline
from bitleak.report.format import count

UNKNOWN = "not known: the answers were made elsewhere"


def rows_and_curves(
    prepared: Prepared, found: Attacked, on_step: Callable[[float], None]
) -> tuple[list[Row], list[RocCurve]]:
    """Every figure and curve of a run, variant by variant.

    Args:
        prepared: The run.
        found: Its scores.
        on_step: Called with the fraction done.
    """
    member = prepared.design.member[list(prepared.design.targets)]
    known = prepared.answers.labels
    labels = np.empty(0, np.int64) if known is None else known[prepared.design.records]
    by_case: dict[Case, list[Row]] = {case: [] for case in prepared.cases}
    curves: dict[Case, list[RocCurve]] = {case: [] for case in prepared.cases}
    for index, attack in enumerate(prepared.attacks):
        baseline: Estimates | None = None
        within: Estimates | None = None
        for case in [case for case in prepared.cases if attack in prepared.attacks_of(case)]:
            scores = found.scores[case, attack.name]
            seed = seed_for(prepared.design.seed, "measure")
            estimates = metrics.estimate_metrics(scores, member, fprs=prepared.fprs, seed=seed)
            measures = metrics.measures_from(estimates, mode=MODE, baseline=baseline)
            baseline = estimates if baseline is None else baseline  # the first case is fp32 by fp32
            by_case[case] += _rows(case, attack, prepared, measures)
            by_case[case] += _further(case, attack, prepared, found, member)
            if prepared.by_class:
                reference = case.reference if attack.uses_references else ""
                added, estimates = within_rows(
                    (case.variant, _quantizer(case.variant), None, attack.name, reference),
                    scores,
                    member,
                    labels,
                    targets=prepared.design.targets,
                    fprs=prepared.fprs,
                    baseline=within,
                    mode=MODE,
                )
                within = estimates if within is None else within
                by_case[case] += added
            curves[case] += _curves(case, attack, prepared, scores, member)
        on_step((index + 1) / len(prepared.attacks))
    rows: list[Row] = []
    for variant in dict.fromkeys(case.variant for case in prepared.cases):
        rows += [row for case in prepared.cases if case.variant == variant for row in by_case[case]]
        if variant in found.correct:
            own = (variant, _quantizer(variant), None, "", "")
            rows += lines(own, prepared, _accuracies(found, member, variant))
    listed = [curve for case in prepared.cases for curve in curves[case]]
    if found.joint is not None:
        together, of_all = joint_rows(prepared, found.joint, member)
        rows, listed = rows + together, listed + of_all
    return rows, listed


def _further(case: Case, attack: Attack, prepared: Prepared, found: Attacked, member: np.ndarray) -> list[Row]:
    """Rates at chosen thresholds, and the bound on epsilon."""
    scores = np.asarray(found.scores[case, attack.name])
    chosen = found.thresholds.get((source_of(case, attack), attack.name))
    shown = dict(
        metrics.epsilon_measures(
            scores,
            member,
            seed=seed_for(prepared.design.seed, "epsilon"),
            delta=DELTA,
            comparisons=len(prepared.attacks) * sum(one.variant == case.variant for one in prepared.cases),
        )
    )
    if chosen is not None and case.variant != CONTROL:
        shown = {
            **metrics.measure_at_thresholds(scores, member, chosen, fprs=prepared.fprs, priors=PRIORS, mode=MODE),
            **shown,
        }
    reference = case.reference if attack.uses_references else ""
    about = (case.variant, _quantizer(case.variant), None, attack.name, reference)
    names = ["all", *map(str, prepared.design.targets)]
    return [
        Row(*about, name, metric, measure)
        for metric, measures in shown.items()
        for name, measure in zip(names, measures, strict=True)
        if measure is not None
    ]


def summarize(prepared: Prepared, rows: list[Row]) -> Summary:
    """What the report says besides the figures."""
    answers, design = prepared.answers, prepared.design
    member = design.member[list(design.targets)]
    members, records = member.sum(axis=1), member.shape[1]
    non_members = int((records - members).min())
    attack, reference = headline(rows)
    fpr = metrics.headline_fpr(prepared.fprs, non_members)
    return Summary(
        title=f"Scores from {printable(answers.source)}",
        dataset=f"records of {printable(answers.source)}",
        records=records,
        members=round(float(members.mean())),
        non_members=non_members,
        population_records=answers.population_records,
        test_records=0,
        classes=answers.classes,
        models=len(answers.pool),
        mode=MODE,
        targets=len(design.targets),
        references=design.per_side(),
        network="not known",
        parameters=0,
        training=UNKNOWN,
        calibration=UNKNOWN if prepared.quantized else "none",
        calibration_records=0,
        fprs=prepared.fprs,
        headline_attack=attack,
        headline_reference=reference,
        headline_fpr=fpr,
        expected_false_positives=fpr * non_members,
        presets=(),
        queries=answers.queries,
        interval="95 % intervals over the records, which all targets share; they are about these models",
        versions=versions(),
        machine=f"cpu, {platform.machine()}",
        seeds={"root": design.seed},
        variants=(),
        source=_sources(prepared),
        membership=membership(prepared),
        notes=prepared.notes,
        warnings=_warnings(prepared, rows, attack),
        priors=PRIORS,
        delta=DELTA,
    )


def _warnings(prepared: Prepared, rows: list[Row], attack: str) -> tuple[str, ...]:
    sentence = told(prepared.by_class, prepared.answers, prepared.design)
    return (warning(sentence, rows, attack, prepared.by_class),) if sentence else ()


def membership(prepared: Prepared) -> str:
    """Who was trained on what, and how the references were evened, in a sentence."""
    design = prepared.design
    inside = design.member.sum(axis=0)
    span = f"{inside.min()}" if inside.min() == inside.max() else f"{inside.min()} to {inside.max()}"
    text = f"as the file says: each record was in the training set of {span} of {len(design.member)} models"
    if not design.referenced:
        return f"{text}; no references were used"
    pairs = sum(complement >= 0 for complement in design.complements)
    left = f"; the complements of {count(pairs, 'target')} were left out" if pairs else ""
    return (
        f"{text}{left}; {count(design.per_side(), 'reference')} with and as many without each record were used, "
        "drawn at random where there were more"
    )


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    names = ("bitleak", "numpy", "scipy", "pyarrow")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _sources(prepared: Prepared) -> str:
    quantized = f" and, quantized, {prepared.quantized.source}" if prepared.quantized else ""
    return f"{prepared.answers.source}{quantized} ({prepared.answers.kind})"


def _quantizer(variant: str) -> str:
    return variant if variant == QUANTIZED else ""


def _rows(case: Case, attack: Attack, prepared: Prepared, measures: Measures) -> list[Row]:
    reference = case.reference if attack.uses_references else ""
    return lines((case.variant, _quantizer(case.variant), None, attack.name, reference), prepared, measures)


def _curves(case: Case, attack: Attack, prepared: Prepared, scores: np.ndarray, member: np.ndarray) -> list[RocCurve]:
    reference = case.reference if attack.uses_references else ""
    about = (case.variant, _quantizer(case.variant), None, attack.name, reference)
    return curves_of(about, prepared, scores, member)


def _accuracies(found: Attacked, member: np.ndarray, variant: str) -> Measures:
    """Accuracy of each target on its own members (train) and on its own non-members (test)."""
    correct: Mapping[str, np.ndarray] = found.correct
    baseline = None if variant == FULL else correct[FULL]
    trained = metrics.accuracy_on_members(correct[variant], member, mode=MODE, baseline=baseline)
    tested = metrics.accuracy_on_members(correct[variant], ~member, mode=MODE, baseline=baseline)
    renamed = Measures(
        {"test_accuracy": tested.targets["train_accuracy"]}, {"test_accuracy": tested.aggregate["train_accuracy"]}
    )
    return renamed | trained
