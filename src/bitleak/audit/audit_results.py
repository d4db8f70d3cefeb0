"""The output folder of an audit, from a store in which all tasks are done."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bitleak.attacks import few_population_records
from bitleak.audit.audit_influences import audit_influences
from bitleak.audit.audit_warnings import copy_warnings, untrained_warnings
from bitleak.audit.comparison_notes import (
    audit_prediction_notes,
    audit_scale_note,
    canary_notes,
    outlying_warnings,
)
from bitleak.audit.exposed_records import (
    decoded_result,
    exposed_records,
    largest_deviations,
    pictures,
    power_curve_rows,
)
from bitleak.audit.file_summaries import file_summaries
from bitleak.audit.graph.planned_target import weight_releases
from bitleak.audit.preparation import Prepared
from bitleak.config import CalibrationConfig, Config, analysis_variants, resolved
from bitleak.core.outside import bare_name
from bitleak.core.types import Images, Row
from bitleak.core.variants import CONTROLS, FULL
from bitleak.data.data_notes import empty_channels
from bitleak.engine.store import Store
from bitleak.metrics import FEWEST_TARGETS, adjust_verdicts, headline_fpr, verdict_about
from bitleak.report import (
    Influences,
    RocCurve,
    Summary,
    VariantSummary,
    absence_notes,
    exposed,
    headline,
    headline_key,
    in_headline,
    named_curves,
    pictured,
    tabulate,
    write_all,
)
from bitleak.report.format import count
from bitleak.steps.choose_partly_thresholds import ChoosePartlyThresholds
from bitleak.steps.choose_thresholds import ChooseThresholds, Thresholds
from bitleak.steps.find_copies import groups_of
from bitleak.steps.measure_power import MeasurePower, PowerFigures
from bitleak.steps.result_rows import ResultTable


@dataclass(frozen=True)
class AuditTables:
    """All that the output folder of an audit is written from.

    Attributes:
        rows: Rows of the results table.
        curves: ROC curves.
        summary: Settings and sentences.
        records: Exposure of single records; None if there is none.
        powered: Points of the power curve.
        pictures: Images of the most exposed records, by file name.
        config: The config with every default written out.
        figures: Figures besides those of every report.
        influences: Influences of records, by which audits are compared.
    """

    rows: list[Row]
    curves: list[RocCurve]
    summary: Summary
    records: Any
    powered: Any
    pictures: Mapping[Any, Any]
    config: str
    figures: tuple[str, ...]
    influences: Influences

    def write(self, out: Path) -> None:
        """Write config, tables, curves, figures and page into a folder."""
        write_all(
            self.rows,
            self.curves,
            self.summary,
            out,
            records=self.records,
            powered=self.powered,
            pictures=self.pictures,
            config=self.config,
            figures=self.figures,
            influences=self.influences,
        )


def write_results(prepared: Prepared, store: Store, out: Path) -> None:
    """Write config, tables, curves, figures and page."""
    audit_tables(prepared, store).write(out)


def audit_tables(prepared: Prepared, store: Store) -> AuditTables:
    """Return the tables of an audit whose tasks are all done."""
    # Rows and curves, in the order of the config; verdicts are corrected over the whole table.
    tasks = {task.key: task for task in prepared.plan.tasks}
    rows: list[Row] = []
    curves: list[RocCurve] = []
    for key in prepared.plan.results:
        table = ResultTable.read(store.read(tasks[key]))
        rows += table.rows
        params = tasks[key].params
        curves += named_curves(
            params.get("variant", ""),
            params.get("quantizer", ""),
            params.get("levels"),
            table.curves,
        )
    quantized = (entry.variant for entry in prepared.config.quantize)
    given = weight_releases(prepared.config)
    order = [FULL, *quantized, *given, *analysis_variants(prepared.config), *CONTROLS]
    rows.sort(key=lambda row: order.index(row.variant))
    counts = store.read(tasks[prepared.plan.copies])["counts"]
    summary = audit_summary(prepared, rows)
    planned = headline_key(tabulate(rows), summary)
    rate = summary.headline_fpr
    rows = adjust_verdicts(rows, planned=lambda row: in_headline(row, planned, rate))

    # Single records, whose exposure the summary lists.
    images = decoded_result(store, tasks[prepared.plan.images])
    splits = decoded_result(store, tasks[prepared.plan.splits])
    records = exposed_records(prepared, store, summary, images, splits)
    single = exposed(records)
    if single is not None:
        described = largest_deviations(images, splits.pool, pictured(single))
        single = replace(single, rows=described)
    clusters = prepared.plan.clusters
    groups = None if clusters is None else groups_of(store.read(tasks[clusters]))
    if groups is not None:
        summary = replace(summary, clusters=len(np.unique(groups)))
    summary = replace(
        summary,
        exposed=single,
        copies=counts,
        files=file_summaries(prepared, store),
        warnings=(
            *_warnings(prepared, counts, images, rows),
            *outlying_warnings(prepared, store),
        ),
        notes=(
            *summary.notes,
            audit_scale_note(prepared, store),
            *audit_prediction_notes(prepared, store),
            *few_population_records(
                {row.reference for row in rows}, prepared.plan.scale.population
            ),
            *canary_notes(prepared.config),
            *_not_computed(prepared, store),
        ),
    )
    return AuditTables(
        rows,
        curves,
        summary,
        records=records,
        powered=power_curve_rows(prepared, store),
        pictures=pictures(images, pictured(summary.exposed)) if summary.exposed else {},
        config=_config_text(prepared),
        figures=prepared.config.figures,
        influences=audit_influences(
            prepared, store, rows, summary, images=images, splits=splits, groups=groups
        ),
    )


def audit_summary(prepared: Prepared, rows: list[Row]) -> Summary:
    """Return the summary of an audit: its settings, and the pair of its details."""
    config, sizes = prepared.config, prepared.plan.scale
    # The pair is named by the config; the FPR is one that this number of non-members can measure.
    attack, reference = headline(rows, config.headline.attack, config.headline.adversary)
    non_members = sizes.pool - sizes.members
    fpr = headline_fpr(config.fpr, non_members)
    name, options = config.model
    models = len({*prepared.plan.targets, *prepared.plan.references})
    per_side = (models - 2) // 2 if config.split.mode == "population" else config.split.shadows // 2
    calibrations = [entry.calibration for entry in config.quantize if entry.looks_at_images]
    shown = list(dict.fromkeys(_calibration_line(calibration) for calibration in calibrations))
    return Summary(
        title=config.title or f"{bare_name(config.data.name)}, {name}",
        dataset=str(config.data.options.get("path") or bare_name(config.data.name)),
        records=sizes.pool,
        members=sizes.members,
        non_members=non_members,
        population_records=sizes.population,
        test_records=sizes.test,
        classes=prepared.description.classes,
        models=models,
        mode=config.split.mode,
        targets=len(prepared.plan.targets),
        references=per_side,
        network=name + "".join(f" {key}={value}" for key, value in options.items()),
        parameters=prepared.network.parameters,
        training=_recipe_line(prepared),
        calibration="; ".join(shown) or "none",
        calibration_records=max((calibration.records for calibration in calibrations), default=0),
        fprs=config.fpr,
        headline_attack=attack,
        headline_reference=reference,
        headline_fpr=fpr,
        expected_false_positives=fpr * non_members,
        presets=_preset_lines(prepared),
        queries=len(config.query.augment),
        interval=_interval_line(config),
        versions=package_versions(),
        machine=f"{prepared.runtime.device}, {platform.machine()}",
        seeds={"root": config.seed},
        variants=_variants(prepared, rows),
        calibration_inference=_calibration_inference_line(config),
        priors=config.priors,
        delta=config.delta,
        lead=prepared.lead,
        limits=config.limits,
    )


def _warnings(
    prepared: Prepared, counts: Mapping[str, int | float], images: Images, rows: Sequence[Row]
) -> tuple[str, ...]:
    """Return warnings: weights without codes, targets that learnt nothing, copies, empty channels."""
    sizes = prepared.plan.scale
    accuracies: dict[str, float] = {}
    for row in rows:
        if row.variant == FULL and row.metric == "train_accuracy" and row.target != "all":
            accuracies[row.target] = row.measure.value
    class_sizes = [number for _, number in prepared.description.counts]
    held_out = sizes.calibration + sizes.population + sizes.test
    clustered = bool(prepared.config.clusters)
    # A column of one value is usual in a table, and listed before the work.
    return (
        *prepared.warnings,
        *untrained_warnings(accuracies, members=sizes.members, images=class_sizes),
        *copy_warnings(counts, records=sizes.pool, held_out=held_out, clustered=clustered),
        *(empty_channels(images) if images.size else ()),
    )


def _not_computed(prepared: Prepared, store: Store) -> tuple[str, ...]:
    """Return a sentence per reason for which thresholds or points of the power curve are absent."""
    thresholds = []
    power: dict[tuple[str, int], str] = {}
    for task in prepared.plan.tasks:
        if task.stage in (ChooseThresholds.STAGE, ChoosePartlyThresholds.STAGE):
            thresholds.append((task.label, Thresholds.read(store.read(task)).refused))
        elif task.stage == MeasurePower.STAGE:
            power |= PowerFigures.read(store.read(task)).refused
    return absence_notes(thresholds, power)


def package_versions() -> dict[str, str]:
    """Return the versions of packages that the figures depend on."""
    names = ("bitleak", "torch", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _config_text(prepared: Prepared) -> str:
    """Return the resolved config, with versions and device as comments."""
    lines = ["# The config of this audit with every default written out."]
    lines += [f"# {name} {version}" for name, version in package_versions().items()]
    lines += [
        f"# device {prepared.runtime.device}",
        f"# data fingerprint {prepared.description.fingerprint}",
    ]
    return (
        "\n".join(lines)
        + "\n"
        + yaml.safe_dump(resolved(prepared.config), sort_keys=False, width=100)
    )


def _recipe_line(prepared: Prepared) -> str:
    recipe = prepared.config.train
    augment = " and ".join(recipe.augment) or "no augmentation"
    precision = "" if recipe.autocast == "none" else f", {recipe.autocast} autocast"
    return (
        f"{recipe.epochs} epochs of SGD, batch {recipe.batch}, learning rate {recipe.learning_rate:g} "
        f"({recipe.schedule}), momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g}, {augment}{precision}"
    )


def _calibration_line(calibration: CalibrationConfig) -> str:
    records = "members of the model" if calibration.source == "members" else "held-out records"
    rounds = f" in {calibration.rounds} augmented rounds" if calibration.rounds > 1 else ""
    return f"{calibration.records} {records}{rounds}"


def _preset_lines(prepared: Prepared) -> tuple[str, ...]:
    """Return a sentence for each quantizer whose preset costs accuracy."""
    lines = {}
    for entry in prepared.config.quantize:
        if entry.preset == "quick" and entry.options.get("iterations"):
            lines[entry.label] = (
                f"{entry.label} ran with preset quick ({entry.options['iterations']} steps): "
                "its accuracy is below what the algorithm reaches with its default or paper preset."
            )
    return tuple(lines.values())


def _interval_line(config: Config) -> str:
    mode, targets = config.split.mode, config.split.targets
    if mode == "population":
        return (
            "95 % intervals over the records, which all targets share; they are about these models"
        )
    if verdict_about(mode, targets) == "trainings":
        return f"95 % intervals over {targets} dedicated targets and their records; they are about models trained anew"
    over = f"95 % intervals over the records of {count(targets, 'dedicated target')}"
    return f"{over}; they are about these models, as fewer than {FEWEST_TARGETS} targets say nothing on new trainings"


def _calibration_inference_line(config: Config) -> str:
    inference = config.calibration_inference
    if inference is None:
        return ""
    half = inference.candidates // 2
    return (
        f"Of each target attacked ({inference.targets}), {inference.candidates} members are candidates. "
        f"The full-precision target was quantized {inference.models} times, each time calibrated on a "
        f"random half of them ({half} records) and asked about all; "
        f"every version is attacked in turn, the others but its complement being its references."
    )


def _variants(prepared: Prepared, rows: list[Row]) -> tuple[VariantSummary, ...]:
    figures = {(row.variant, row.metric): row.measure.value for row in rows if row.target == "all"}
    entries: list[tuple[str, str, int | None]] = [(FULL, "", None)]
    entries += [(entry.variant, entry.label, entry.levels) for entry in prepared.config.quantize]
    entries += [(name, name, None) for name in weight_releases(prepared.config)]
    return tuple(
        VariantSummary(
            name, quantizer, levels, figures[name, "bits_per_weight"], round(figures[name, "bytes"])
        )
        for name, quantizer, levels in entries
    )
