"""The table that ends the output of a command: a line per variant, in 80 columns, no word cut."""

from collections.abc import Sequence
from typing import NamedTuple

from bitleak.core.metric_names import AUC, TEST_ACCURACY, Metric
from bitleak.core.variants import UNQUANTIZED, Variant
from bitleak.report import format as text
from bitleak.report.headline import headline_key
from bitleak.report.plain_words import variant_bytes
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

_WIDTH = 80

_GAP = "  "


class TextColumn(NamedTuple):
    """A column: two lines of heading, a cell per variant, and its turn to be left out.

    Attributes:
        heading: Both lines.
        cells: One per variant.
        rank: The largest is left out first if the table is too wide; 0 stays.
    """

    heading: tuple[str, str]
    cells: list[str]
    rank: int

    @property
    def width(self) -> int:
        """Characters of the widest cell or heading."""
        return max(map(len, (*self.heading, *self.cells)))

    @property
    def shows_something(self) -> bool:
        """Whether a cell holds more than a dash."""
        return any(cell not in ("", text.DASH) for cell in self.cells)


def terminal_table(table: Table, summary: Summary, width: int = _WIDTH) -> list[str]:
    """Return the lines of the table.

    Args:
        table: The aggregated rows.
        summary: Names the headline's pair and FPR.
        width: Columns of the terminal. Columns of the table are left out until it fits: AUC, the
            size, the bits. Only names of variants longer than the rest allows make it wider.
    """
    columns = text_columns(table, summary)
    while _total(columns) > width and any(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    lines = []
    for row in (0, 1):
        lines.append(_line(columns, [column.heading[row] for column in columns]))
    for index in range(len(columns[0].cells)):
        lines.append(_line(columns, [column.cells[index] for column in columns]))
    return lines


def text_columns(table: Table, summary: Summary) -> list[TextColumn]:
    """Return the columns that show something, for full precision and the quantized variants."""
    variants = [UNQUANTIZED, *table.quantized]
    columns = _all_columns(table, summary, variants)
    return [column for column in columns if column.shows_something]


def _all_columns(table: Table, summary: Summary, variants: Sequence[Variant]) -> list[TextColumn]:
    key, rate = headline_key(table, summary), Metric("tpr", summary.headline_fpr)
    columns = [TextColumn(("", "variant"), list(map(str, variants)), 0)]
    columns.append(TextColumn(("", "bits"), [text.bits(variant.levels) for variant in variants], 1))
    sizes = [variant_bytes(table, summary, variant) for variant in variants]
    shown = [text.DASH if size is None else text.size(size) for size in sizes]
    columns.append(TextColumn(("", "size"), shown, 2))
    accuracies = [table.find(variant, TEST_ACCURACY) for variant in variants]
    shown = [text.value(measure, 1, factor=100.0) for measure in accuracies]
    columns.append(TextColumn(("test", "accuracy %"), shown, 0))

    # Leakage and the verdict are of the same pair.
    areas = [table.find(variant, AUC, *key) for variant in variants]
    rates = [table.find(variant, rate, *key) for variant in variants]
    measured = any(rates)
    columns.append(
        TextColumn(("", "AUC"), [text.figure(area, 3) for area in areas], 3 if measured else 0)
    )
    decimals = max(1, text.tpr_decimals(summary.headline_fpr) - 2)
    shown = [text.figure(measure, decimals, factor=100.0) for measure in rates]
    columns.append(
        TextColumn(("picked out %", f"at {text.percent(summary.headline_fpr)} FPR"), shown, 0)
    )
    judged = rates if measured else areas
    verdicts = [measure.verdict if measure else "" for measure in judged]
    columns.append(
        TextColumn(("against", "fp32"), [verdict or text.DASH for verdict in verdicts], 0)
    )
    return columns


def _total(columns: Sequence[TextColumn]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _line(columns: Sequence[TextColumn], cells: Sequence[str]) -> str:
    padded = [f"{cell:<{column.width}}" for column, cell in zip(columns, cells, strict=True)]
    return _GAP.join(padded).rstrip()
