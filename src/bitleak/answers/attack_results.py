"""From scores to the rows, curves, records and summary of a report."""

import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata

import numpy as np
from jaxtyping import Bool, Float64

from bitleak import metrics
from bitleak.answers.attack_design import MODE
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.attack_run import AttackOutcome
from bitleak.answers.class_membership import class_figures_warning, class_warning, within_class_rows
from bitleak.answers.joint_releases import joint_rows
from bitleak.answers.target_views import FULL_BY_FULL, QUANTIZED, Case
from bitleak.attacks import Attack, few_population_records
from bitleak.core.errors import printable
from bitleak.core.seeds import seed_for
from bitleak.core.types import Row
from bitleak.core.variants import CONTROL, FULL, POSITIVE
from bitleak.metrics import Estimates, Measures
from bitleak.report import (
    PowerRow,
    RecordResults,
    RocCurve,
    Summary,
    absence_notes,
    headline,
    named_curves,
    variant_records,
)
from bitleak.report.format import count
from bitleak.steps.attack_targets import AttackLabel
from bitleak.steps.result_rows import ResultTable, Subject, measure_rows

UNKNOWN = "not known: the answers were made elsewhere"


def rows_and_curves(
    prepared: PreparedAttack, outcome: AttackOutcome, on_step: Callable[[float], None]
) -> tuple[list[Row], list[RocCurve]]:
    """Return every figure and curve of a run, variant by variant.

    Args:
        prepared: The run.
        outcome: Its scores.
        on_step: Called with the fraction done.
    """
    member = prepared.design.member[list(prepared.design.targets)]
    # Attack by attack, so that the estimates of one attack are in memory at a time.
    tables: dict[Case, list[ResultTable]] = {case: [] for case in prepared.cases}
    for index, attack in enumerate(prepared.attacks):
        for case, table in _attack_tables(prepared, outcome, attack, member).items():
            tables[case].append(table)
        on_step((index + 1) / len(prepared.attacks))

    # Variant by variant, each with its accuracies at the end.
    rows: list[Row] = []
    curves: list[RocCurve] = []
    for variant in dict.fromkeys(case.variant for case in prepared.cases):
        for case in prepared.cases:
            if case.variant == variant:
                for table in tables[case]:
                    rows += table.rows
                    curves += named_curves(variant, case.quantizer, None, table.curves)
        if variant in outcome.correct:
            rows += _accuracy_rows(prepared, outcome.correct, member, variant)
    for table in _memorising_tables(prepared, outcome):
        rows += table.rows
        curves += named_curves(POSITIVE, "", None, table.curves)
    if outcome.joint:
        together, together_curves = joint_rows(prepared, outcome.joint, member)
        rows, curves = rows + together, curves + together_curves
    return rows, curves


def _memorising_tables(prepared: PreparedAttack, outcome: AttackOutcome) -> list[ResultTable]:
    """Return the rows and curves of the positive control, attack by attack; compared with nothing."""
    scores = outcome.memorising
    if scores is None:
        return []
    step = prepared.measuring(POSITIVE, "", FULL, comparisons=len(scores.attacks))
    tables = []
    for index, label in enumerate(scores.attacks):
        table = step.attack_table(
            label,
            scores.targets,
            np.asarray(scores.scores[index]),
            prepared.design.member[list(scores.targets)],
            baseline={},
            thresholds=None,
            mode=MODE,
            clusters=prepared.clusters,
        )
        tables.append(table)
    return tables


def _attack_tables(
    prepared: PreparedAttack,
    outcome: AttackOutcome,
    attack: Attack,
    member: Bool[np.ndarray, "targets records"],
) -> dict[Case, ResultTable]:
    """Return the rows and curves of one attack, by case."""
    design, label = prepared.design, AttackLabel(attack.name, attack.uses_references)
    clusters = prepared.clusters
    # Every case is compared with full precision, attacked by full-precision references.
    baseline = metrics.estimate_metrics(
        outcome.scores[FULL_BY_FULL].of(attack.name),
        member,
        fprs=prepared.fprs,
        seed=seed_for(design.seed, "measure"),
        clusters=clusters,
    )
    within_baseline: Estimates | None = None
    tables = {}
    for case in prepared.cases:
        if attack not in prepared.attacks_of(case):
            continue
        scores = outcome.scores[case].of(attack.name)
        comparisons = len(prepared.attacks) * sum(
            other.variant == case.variant for other in prepared.cases
        )
        step = prepared.measuring(
            case.variant, case.quantizer, case.reference, comparisons=comparisons
        )
        table = step.attack_table(
            label,
            design.targets,
            scores,
            member,
            baseline=baseline,
            thresholds=outcome.thresholds(case, attack),
            mode=MODE,
            clusters=clusters,
            map_influence=outcome.scores[case].map_influence_of(attack.name),
        )
        within: list[Row] = []
        if prepared.by_class:
            reference = case.reference if attack.uses_references else ""
            within, estimates = within_class_rows(
                Subject(case.variant, case.quantizer, None, attack.name, reference),
                scores,
                member,
                prepared.labels,
                targets=design.targets,
                fprs=prepared.fprs,
                baseline=within_baseline,
                clusters=clusters,
            )
            # The first case is full precision.
            within_baseline = estimates if within_baseline is None else within_baseline
        tables[case] = ResultTable([*table.rows, *within], table.curves)
    return tables


def _accuracy_rows(
    prepared: PreparedAttack,
    correct: Mapping[str, Float64[np.ndarray, "targets records"]],
    member: Bool[np.ndarray, "targets records"],
    variant: str,
) -> list[Row]:
    """Return the accuracy of each target on its own non-members (test) and members (train)."""
    baseline = None if variant == FULL else correct[FULL]
    accuracy = partial(
        metrics.accuracy_on_members,
        correct[variant],
        mode=MODE,
        baseline=baseline,
        clusters=prepared.clusters,
    )
    trained, tested = accuracy(member), accuracy(~member)
    renamed = Measures(
        {"test_accuracy": tested.targets["train_accuracy"]},
        {"test_accuracy": tested.aggregate["train_accuracy"]},
    )
    subject = Subject(variant, QUANTIZED if variant == QUANTIZED else "")
    return measure_rows(subject, prepared.design.targets, renamed | trained)


def summarize(prepared: PreparedAttack, rows: list[Row]) -> Summary:
    """Return the settings of a run, its headline attack, and notes and warnings for the reader."""
    # Targets may have different numbers of members: rates are limited by the fewest non-members.
    answers, design = prepared.answers, prepared.design
    member = design.member[list(design.targets)]
    members, records = member.sum(axis=1), member.shape[1]
    non_members = int((records - members).min())
    attack, reference = headline(rows)
    fpr = metrics.headline_fpr(prepared.fprs, non_members)
    # A file of answers has no network and no recipe, so these fields hold `not known`.
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
        notes=(
            *prepared.notes,
            *few_population_records({row.reference for row in rows}, answers.population_records),
        ),
        warnings=_class_warnings(prepared, rows, attack),
        priors=prepared.priors,
        delta=prepared.delta,
        clusters=_clusters(prepared),
    )


def _clusters(prepared: PreparedAttack) -> int | None:
    clusters = prepared.clusters
    return None if clusters is None else int(clusters.max()) + 1


def record_results(
    prepared: PreparedAttack, outcome: AttackOutcome, summary: Summary
) -> RecordResults:
    """Return exposure under the headline attack, and memorisation, of every audited record under every variant."""
    design, attack = prepared.design, summary.headline_attack
    member = design.member[list(design.targets)]
    seed = seed_for(design.seed, "reliability")
    variants = []
    for variant in dict.fromkeys(
        case.variant for case in prepared.cases if case.variant != CONTROL
    ):
        cases = []
        for case, scores in outcome.scores.items():
            if case.variant == variant and attack in [label.name for label in scores.attacks]:
                cases.append(case)
        chosen = next(
            (case for case in cases if case.reference == summary.headline_reference), cases[0]
        )
        names = (variant, chosen.reference if summary.headline_reference else "")
        scores_of_attack = np.asarray(outcome.scores[chosen].of(attack))
        memorised = outcome.memorised.get(variant)
        variants.append(
            variant_records(names, scores_of_attack, member, memorised=memorised, seed=seed)
        )
    labels = None if prepared.answers.labels is None else prepared.labels
    return RecordResults(attack, prepared.answers.numbered(design.records), labels, tuple(variants))


def power_curve(outcome: AttackOutcome) -> list[PowerRow]:
    """Return the figures with fewer references as rows of the report."""
    return [PowerRow(FULL, reference=FULL, **figure._asdict()) for figure in outcome.power.rows]


def not_computed(outcome: AttackOutcome) -> tuple[str, ...]:
    """Return a sentence per reason for which thresholds or points of the power curve are absent."""
    thresholds = []
    for case, played in outcome.played.items():
        mapped = ", recalibrated" if case.recalibrated else ""
        thresholds.append((f"thresholds on {case.variant}{mapped}", played.refused))
    return absence_notes(thresholds, outcome.power.refused)


def _class_warnings(prepared: PreparedAttack, rows: list[Row], attack: str) -> tuple[str, ...]:
    sentence = class_warning(prepared.by_class, prepared.answers, prepared.design)
    return (class_figures_warning(sentence, rows, attack, prepared.by_class),) if sentence else ()


def membership(prepared: PreparedAttack) -> str:
    """Who was trained on what, and how the references were evened, in a sentence."""
    design = prepared.design
    inside = design.member.sum(axis=0)
    span = (
        f"{inside.min()}" if inside.min() == inside.max() else f"{inside.min()} to {inside.max()}"
    )
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
    """Return the versions of the software that the figures depend on."""
    names = ("bitleak", "numpy", "scipy", "pyarrow")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _sources(prepared: PreparedAttack) -> str:
    quantized = f" and, quantized, {prepared.quantized.source}" if prepared.quantized else ""
    return f"{prepared.answers.source}{quantized} ({prepared.answers.kind})"
