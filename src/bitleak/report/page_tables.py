"""Tables and sections of the page as plain data, and the tables of the attacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bitleak.core.metric_names import (
    AGREEMENT,
    AUC,
    BALANCED_ACCURACY,
    BYTES,
    TEST_ACCURACY,
    TRAIN_ACCURACY,
    Metric,
)
from bitleak.core.types import Measure
from bitleak.core.variants import (
    CONTROLS,
    NEGATIVE_CONTROL,
    POSITIVE_CONTROL,
    STRONGEST,
    UNQUANTIZED,
    Variant,
    question_of,
)
from bitleak.report import format as text
from bitleak.report.headline import named_beforehand
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

ADVERSARIES = {
    "fp32": "The naive adversary keeps reference models at full precision, whatever the target's "
    "precision is. Its figures mix membership with the shift of confidence that quantization "
    "causes: a smaller figure may only mean that the references do not fit.",
    "recalibrated": "The naive adversary with a correction: the target's confidence is first "
    "mapped so that it has, on held-out records in no training set, the mean and the standard "
    "deviation of the average full-precision reference.",
    "matched": "The adversary who knows the recipe: every reference is quantized as the target "
    "is, with the same quantizer, precision and settings.",
    "": "An adversary without reference models: one threshold for all records.",
}
"""The adversary in sentences, by kind of reference."""

_BUILT_IN = (
    "auc",
    "tpr",
    "balanced_accuracy",
    "epsilon",
    "tpr_chosen",
    "fpr_chosen",
    "precision",
    "auc_within_class",
    "tpr_within_class",
)
"""Metrics of an attack that are in every table, or in the table of a section."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table of the page.

    Attributes:
        main: The figure.
        small: Its interval, printed below; may be empty.
        mark: `lower`, `higher` or empty: how the cell is marked.
    """

    main: str
    small: str = ""
    mark: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table of the page.

    Attributes:
        title: Its heading.
        note: A sentence below the heading; may be empty.
        header: Titles of the columns, the column of the lines' names first.
        lines: A name and the cells of the other columns.
        optional: Titles of columns that the page hides at first, if its script runs.
    """

    title: str
    note: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class PageSection:
    """A part of the page that answers a question of its own.

    Attributes:
        title: Its heading.
        paragraphs: The method, and how to read the tables.
        sentences: The findings, a line each; also for the terminal.
        tables: The figures.
    """

    title: str
    paragraphs: tuple[str, ...]
    sentences: tuple[str, ...]
    tables: tuple[PageTable, ...]

    @property
    def key(self) -> str:
        """The title as an anchor."""
        return self.title.lower().replace(" ", "-")


class Column(NamedTuple):
    """A column of a table about one attack.

    Attributes:
        title: Its heading.
        metric: The figure, as a value or, if a config names it, by its name.
        decimals: Digits after the point.
        cell: Makes the cell of a measure.
    """

    title: str
    metric: Metric | str
    decimals: int
    cell: Callable[[Measure | None, int], Cell]


def figure_cell(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> Cell:
    """Return the figure with its interval below it."""
    main = text.value(measure, decimals, factor=factor)
    return Cell(main, text.interval(measure, decimals, factor=factor))


def change_cell(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> Cell:
    """Return the verdict, with the paired difference below it."""
    if measure is None or not measure.verdict:
        return Cell(text.DASH)
    mark = measure.verdict if measure.verdict in ("lower", "higher") else ""
    return Cell(measure.verdict, text.difference(measure, decimals, factor=factor), mark)


def rate_column(fpr: float) -> Column:
    """Return the column of the TPR at an FPR."""
    title = f"TPR @ {text.percent(fpr)} FPR"
    return Column(title, Metric("tpr", fpr), text.tpr_decimals(fpr), figure_cell)


def audited(table: Table) -> tuple[Variant, ...]:
    """Return full precision, the quantized variants and the controls, in the order of all tables."""
    return (UNQUANTIZED, *table.quantized, NEGATIVE_CONTROL, POSITIVE_CONTROL)


STRONGEST_NOTE = (
    "For each target the pair of attack and adversary with the largest mean TPR at the headline FPR "
    "over players: other models in the target's place, without the target and its complement among "
    "their references. Full precision has a choice of its own. The intervals repeat the choice under "
    "resampling of records; the column chosen of results.csv names the pairs."
)
"""Note on the table of the strongest pairs."""

NAMED_NOTE = (
    "No models could play a target to choose the pair of attack and adversary that finds most: there are too few, or "
    "no attack compares a target with others. These figures are those of the pair that was named before anything was "
    "measured; other pairs may find more."
)
"""Note on the table of the headline if all of its pairs were named."""


def headline_table(
    table: Table, summary: Summary, reference: str, *, strongest: bool = False
) -> PageTable:
    """Make the table of all metrics of all variants under one pair of attack and adversary.

    Args:
        table: The aggregated rows.
        summary: Names the attack and the FPRs.
        reference: Kind of reference.
        strongest: Whether it is the table of the strongest pairs instead of the named attack's.
    """
    # Columns: the network's figures first, then those of the attack.
    columns = _headline_columns(table, summary)
    attack = STRONGEST if strongest else summary.headline_attack
    if strongest:
        columns = [column for column in columns if column.metric != BALANCED_ACCURACY]
    header = ["variant", "bits per weight, size"]
    header += ["test accuracy %", "train accuracy %", "agreement %"]
    header += [column.title for column in columns]
    # Variants that were not attacked by this pair have no line.
    lines = []
    for variant in audited(table):
        cells = [_size_cell(table, summary, variant)]
        for metric in (TEST_ACCURACY, TRAIN_ACCURACY, AGREEMENT):
            cells.append(figure_cell(table.find(variant, metric), 1, factor=100.0))
        attacked = attack_cells(table, variant, columns, attack, reference)
        if attacked:
            lines.append((str(variant), (*cells, *attacked)))
    # Title and note name the pair, or how it was chosen.
    title = f"{attack}, {text.REFERENCE_TITLES[reference]}"
    if strongest:
        title = "the strongest attack and adversary, chosen on players"
    note = STRONGEST_NOTE if strongest else ADVERSARIES[reference]
    if strongest and named_beforehand(table, summary):
        title, note = "the attack and adversary named beforehand", NAMED_NOTE
    # The page hides these columns at first.
    optional = ["train accuracy %", "agreement %", "AUC against fp32", "balanced accuracy"]
    for fpr in summary.fprs:
        if fpr != summary.headline_fpr:
            optional.append(rate_column(fpr).title)
    return PageTable(title, note, tuple(header), tuple(lines), tuple(optional))


def full_table(table: Table, summary: Summary, attack: str) -> PageTable:
    """Make the table of AUC and TPR of all variants under one attack, for every kind of reference.

    Args:
        table: The aggregated rows.
        summary: Names the FPRs.
        attack: Name of the attack.
    """
    columns = [Column("AUC", AUC, 3, figure_cell), *map(rate_column, summary.fprs)]
    references = table.references(attack)
    header = ["variant"]
    for reference in references:
        header += [f"{column.title}, {reference or 'no references'}" for column in columns]
    lines = []
    for variant in audited(table):
        cells: list[Cell] = []
        for reference in references:
            attacked = attack_cells(table, variant, columns, attack, reference)
            cells += attacked or [Cell(text.DASH)] * len(columns)
        if any(cell.main != text.DASH for cell in cells):
            lines.append((str(variant), tuple(cells)))
    return PageTable(attack, "", tuple(header), tuple(lines))


def attack_cells(
    table: Table,
    variant: Variant,
    columns: Sequence[Column],
    attack: str,
    reference: str,
) -> list[Cell]:
    """Return the cells of one variant under one attack; none if nothing was measured."""
    measures = [table.find(variant, column.metric, attack, reference) for column in columns]
    if not any(measures):
        return []
    cells = []
    for column, measure in zip(columns, measures, strict=True):
        # a control differs from full precision by design, and is no variant to choose
        judged = column.cell is not change_cell or str(variant) not in CONTROLS
        cells.append(column.cell(measure if judged else None, column.decimals))
    return cells


def _headline_columns(table: Table, summary: Summary) -> list[Column]:
    """Return the columns about the attack: verdicts next to figures, added metrics last."""
    columns = [
        Column("AUC", AUC, 3, figure_cell),
        Column("AUC against fp32", AUC, 3, change_cell),
    ]
    for fpr in dict.fromkeys([*summary.fprs, summary.headline_fpr]):
        column = rate_column(fpr)
        columns.append(column)
        if fpr == summary.headline_fpr:
            columns.append(column._replace(title=f"{column.title} against fp32", cell=change_cell))
    columns.append(Column("balanced accuracy", BALANCED_ACCURACY, 3, figure_cell))
    for name in _added_metrics(table, summary.headline_attack):
        columns.append(Column(name, name, 3, figure_cell))
    return columns


def _added_metrics(table: Table, attack: str) -> list[str]:
    """Return the metrics of an attack that bitleak does not measure unless a config names them."""
    names: dict[str, None] = {}
    for variant, row_attack, _, name in table.cells:
        if row_attack == attack and question_of(variant) == "plain":
            names[name] = None
    return [name for name in names if not _is_built_in(name)]


def _is_built_in(name: str) -> bool:
    try:
        metric = Metric.parse(name)
    except ValueError:
        return False
    return metric.base in _BUILT_IN or bool(metric.over)


def _size_cell(table: Table, summary: Summary, variant: Variant) -> Cell:
    """Return the bits per weight, with the bytes below them."""
    entries = {entry.name: entry for entry in summary.variants}
    entry = entries.get(str(variant))
    measure = table.find(variant, BYTES)
    bits = text.DASH if entry is None else f"{entry.bits_per_weight:.2f}"
    if measure is not None:
        return Cell(bits, text.size(measure.value) + _counted_text(table, variant))
    return Cell(bits, "" if entry is None else text.size(entry.bytes))


def _counted_text(table: Table, variant: Variant) -> str:
    """Return the counts of a file's layers in words; activations alone if these are all that is known."""
    levels, left = table.find(variant, "levels_counted"), table.find(variant, "float_layers")
    activations = table.find(variant, "quantized_activations")
    if activations is None:
        return ""
    rounded = "activations quantized" if activations.value > 0 else "float activations"
    if levels is None or left is None:
        return f"; {rounded}"
    unquantized = f", {left.value:g} layers in full precision" if left.value > 0 else ""
    return f"; at most {levels.value:g} levels, {rounded}{unquantized}"
