"""`report.html`: one file that opens without a network, made from the table, the summary and the SVGs."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jinja2
from markupsafe import Markup

from bitleak.core.types import Measure
from bitleak.metrics import detectable_auc, why_unmeasurable
from bitleak.report import format as text
from bitleak.report.conclusions import LOWER_BOUND, verdicts
from bitleak.report.figures.style import FAINT, INK
from bitleak.report.headline import judge_control
from bitleak.report.page_tables import Cell, Grid, change_cell, figure_cell
from bitleak.report.power_file import PowerRow, missing
from bitleak.report.results_table import ALL, CONTROL, FULL, Table, Variant
from bitleak.report.sections import sections
from bitleak.report.sections.chosen_thresholds import chosen_grids, epsilon_grid, power_grids
from bitleak.report.sections.exposed_records import record_grids, strips
from bitleak.report.summary import Summary

ADVERSARIES = {
    "fp32": "The naive adversary keeps reference models at full precision, whatever precision the target has. What "
    "this one finds mixes membership with the shift that quantization gives to the target's confidence: a smaller "
    "figure may only mean that the references do not fit.",
    "recalibrated": "The naive adversary with a correction: the target's confidence is first mapped so that it has, "
    "on held-out records of which nobody is a member, the mean and the standard deviation of the average "
    "full-precision reference.",
    "matched": "The adversary who knows the recipe: every reference is quantized as the target is, with the same "
    "quantizer, precision and settings.",
    "": "An adversary without reference models: one threshold for all records.",
}
"""Who the adversary is, by kind of reference."""

CAPTIONS = {
    "tradeoff": "Test accuracy against leakage, with 95 % intervals in both directions: up and to the left is worse. "
    "One panel per adversary. Lines join the precisions of a quantizer; a hollow marker with an arrow is a TPR of "
    "zero, drawn at the upper end of its interval. A cross, joined to a variant by a dotted line, is full precision "
    "with weight noise of the variant's accuracy.",
    "roc": "ROC curves with both axes logarithmic, the mean over targets under the headline attack and adversary, "
    "one panel per precision.",
    "bars": "Test accuracy, AUC and TPR under the headline attack and adversary, with 95 % intervals.",
    "power": "AUC and TPR at the headline FPR on full-precision targets by the number of reference models a side, for "
    "every attack that uses references, mean over targets with 95 % bands. All attacks are given the same references, "
    "smaller sets being parts of larger ones. An attack has no point where it cannot be run with so few.",
}


_Column = tuple[str, str, int, Callable[[Measure | None, int], Cell]]
"""Title, metric, decimals, and what makes the cell."""


def page(
    table: Table,
    summary: Summary,
    figures: Mapping[str, bytes],
    *,
    powered: Sequence[PowerRow] = (),
    pictures: Mapping[int, bytes] = MappingProxyType({}),
) -> str:
    """The HTML page.

    Args:
        table: The aggregated rows.
        summary: What was audited and how.
        figures: SVG by name of the figure.
        powered: The attacks by number of references.
        pictures: PNG of the listed records, by number.

    Returns:
        A complete document; every name in it is escaped.
    """
    attack, reference = summary.headline_attack, summary.headline_reference
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bitleak.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        summary=summary,
        text=text,
        verdicts=verdicts(table, summary),
        control=judge_control(table, attack, reference),
        lower_bound=LOWER_BOUND,
        adversaries=_adversaries(table),
        reference_title=text.REFERENCE_TITLES[reference],
        grids=[headline_grid(table, summary, kind) for kind in _ordered(table, summary)],
        full=[full_grid(table, summary, name) for name in table.attacks],
        sections=sections(table, summary),
        compared=len(table.quantized),
        detectable=detectable_auc(summary.members, summary.non_members, targets=summary.targets),
        refused=[reason for fpr in summary.fprs if (reason := why_unmeasurable(fpr, summary.non_members))],
        figures=[_figure_of(name, svg) for name, svg in figures.items() if name != "power"],
        power_figure=_figure_of("power", figures["power"]) if "power" in figures else None,
        power_grids=_power_grids(powered, summary),
        power_missing=missing(powered),
        chosen=chosen_grids(table, summary),
        epsilon=epsilon_grid(table, summary),
        strips=strips(summary.exposed, pictures) if summary.exposed else [],
        record_grids=record_grids(summary.exposed) if summary.exposed else [],
    )


def headline_grid(table: Table, summary: Summary, reference: str) -> Grid:
    """All metrics of all variants under the headline attack with one kind of reference."""
    attack, columns = summary.headline_attack, _columns(summary)
    header = ("variant", "bits per weight, size", "test accuracy %", "train accuracy %", "agreement %",
              *[title for title, _, _, _ in columns])  # fmt: skip
    lines = []
    for variant in (Variant(FULL, "", None), *table.quantized, Variant(CONTROL, "", None)):
        found = [table.find(variant.name, metric, attack, reference) for _, metric, _, _ in columns]
        if any(measure is not None for measure in found):
            cells = [cell(measure, decimals) for measure, (_, _, decimals, cell) in zip(found, columns, strict=True)]
            lines.append((variant.name, (_weight(table, summary, variant), *_utility(table, variant), *cells)))
    title = f"{attack}, {text.REFERENCE_TITLES[reference]}"
    return Grid(title, ADVERSARIES[reference], header, tuple(lines))


def full_grid(table: Table, summary: Summary, attack: str) -> Grid:
    """AUC and TPR of all variants under one attack, for every kind of reference it was run with."""
    metrics = [("auc", 3, "AUC"), *[(text.tpr_metric(rate), text.tpr_decimals(rate), f"TPR @ {text.percent(rate)} FPR")
                                    for rate in summary.fprs]]  # fmt: skip
    references = table.references(attack)
    header = (
        "variant",
        *[f"{name}, {reference or 'no references'}" for reference in references for _, _, name in metrics],
    )
    lines = []
    for name in (FULL, *[variant.name for variant in table.quantized], CONTROL):
        found = [
            (table.find(name, metric, attack, kind), decimals) for kind in references for metric, decimals, _ in metrics
        ]
        if any(measure is not None for measure, _ in found):
            lines.append((name, tuple(figure_cell(measure, decimals) for measure, decimals in found)))
    return Grid(attack, "", header, tuple(lines))


def inlined(svg: bytes, prefix: str) -> str:
    """An SVG for use inside a page: no prologue, ids of its own, colours that follow the page's.

    Args:
        svg: As Matplotlib writes it.
        prefix: Put before every id, since several SVGs share the page's names.
    """
    content = svg.decode()
    content = content[content.index("<svg") :]
    content = re.sub(r"<!--.*?-->\n?", "", content, flags=re.DOTALL)
    content = re.sub(r'\bid="', f'id="{prefix}-', content)
    content = re.sub(r'href="#', f'href="#{prefix}-', content)
    content = re.sub(r"url\(#", f"url(#{prefix}-", content)
    content = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", content)
    content = re.sub(
        r'^<svg([^>]*?) height="[^"]*"', r'<svg\1 role="img" aria-labelledby="caption-' + prefix + '"', content
    )
    content = re.sub(r'(<g id="[^"]*patch_1">\s*<path d="[^"]*" style="fill: )#ffffff', r"\1none", content)
    return content.replace(INK, "var(--ink)").replace(FAINT, "var(--line)")


def _figure_of(name: str, svg: bytes) -> tuple[str, Markup, str]:
    return name, Markup(inlined(svg, name)), CAPTIONS[name]


def _power_grids(powered: Sequence[PowerRow], summary: Summary) -> list[Grid]:
    rate = summary.headline_fpr
    metrics = [("auc", "AUC", 3), (text.tpr_metric(rate), f"TPR @ {text.percent(rate)} FPR", text.tpr_decimals(rate))]
    rows = [(row.attack, row.references, row.metric, row.measure) for row in powered if row.target == ALL]
    known = {metric for _, _, metric, _ in rows}
    return power_grids(rows, [one for one in metrics if one[0] in known])


def _ordered(table: Table, summary: Summary) -> list[str]:
    """Kinds of reference of the headline attack, the headline's first."""
    kinds = table.references(summary.headline_attack)
    return sorted(kinds, key=lambda kind: kind != summary.headline_reference)


def _adversaries(table: Table) -> list[tuple[str, str]]:
    used = {kind for attack in table.attacks for kind in table.references(attack)}
    return [(text.REFERENCE_TITLES[kind], ADVERSARIES[kind]) for kind in text.REFERENCES if kind in used]


def _columns(summary: Summary) -> list[_Column]:
    """The columns of the headline table that belong to an attack; verdicts beside the figures they are about."""
    columns: list[_Column] = [("AUC", "auc", 3, figure_cell), ("AUC against fp32", "auc", 3, change_cell)]
    for rate in dict.fromkeys([*summary.fprs, summary.headline_fpr]):
        title, metric, decimals = f"TPR @ {text.percent(rate)} FPR", text.tpr_metric(rate), text.tpr_decimals(rate)
        columns.append((title, metric, decimals, figure_cell))
        if rate == summary.headline_fpr:
            columns.append((f"{title} against fp32", metric, decimals, change_cell))
    return [*columns, ("balanced accuracy", "balanced_accuracy", 3, figure_cell)]


def _weight(table: Table, summary: Summary, variant: Variant) -> Cell:
    known = {entry.name: entry for entry in summary.variants}.get(variant.name)
    measure = table.find(variant.name, "bytes")
    count = measure.value if measure else known.bytes if known else None
    return Cell(f"{known.bits_per_weight:.2f}" if known else text.DASH, "" if count is None else text.size(count))


def _utility(table: Table, variant: Variant) -> list[Cell]:
    metrics = ("test_accuracy", "train_accuracy", "agreement")
    return [figure_cell(table.find(variant.name, metric), 1, factor=100.0) for metric in metrics]
