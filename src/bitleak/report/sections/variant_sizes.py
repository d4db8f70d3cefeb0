"""The page's table of levels, bits and bytes of every variant."""

from bitleak.core.metric_names import BYTES
from bitleak.core.variants import CONTROLS
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageTable, audited
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary

_COUNTED = ("levels_counted", "float_layers", "quantized_activations")


def size_table(table: Table, summary: Summary) -> PageTable:
    """Make the table; columns of counts are left out if no variant was counted."""
    entries = {entry.name: entry for entry in summary.variants}
    names = [variant for variant in audited(table) if str(variant) not in CONTROLS]
    counted = []
    for metric in _COUNTED:
        if any(table.find(variant, metric) for variant in names):
            counted.append(metric)
    header = ["variant", "levels", "bits per weight", "bytes"]
    header += [metric.replace("_", " ") for metric in counted]
    lines = []
    for variant in names:
        entry, measure = entries.get(str(variant)), table.find(variant, BYTES)
        stored = measure.value if measure else entry.bytes if entry else None
        cells = [
            Cell(str(variant.levels or text.DASH)),
            Cell(text.DASH if entry is None else f"{entry.bits_per_weight:.2f}"),
            Cell(text.DASH if stored is None else f"{stored:,.0f}"),
        ]
        cells += [Cell(text.value(table.find(variant, metric), 0)) for metric in counted]
        lines.append((str(variant), tuple(cells)))
    return PageTable("", "", tuple(header), tuple(lines))
