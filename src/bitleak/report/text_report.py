"""The report as Markdown, and as a block for a model card."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from bitleak.core.metric_names import AUC, TEST_ACCURACY, Metric
from bitleak.core.output_folder import complete
from bitleak.core.types import Measure
from bitleak.core.variants import FULL
from bitleak.report import format as text
from bitleak.report.conclusions import sentences
from bitleak.report.headline import headline_key
from bitleak.report.not_tested import not_tested
from bitleak.report.plain_words import certainty, plain_answer, reading
from bitleak.report.results_table import ALL, Table, tabulate
from bitleak.report.row_files import read_rows
from bitleak.report.sections.shipped_files import file_table
from bitleak.report.summary import Summary, read_summary
from bitleak.report.terminal_table import text_columns

_SPECIAL = "\\`*_{}<>#|"
"""Signs that mean something in Markdown."""


def markdown_report(table: Table, summary: Summary) -> str:
    """Return the report as Markdown: the answer, the table, the evidence, and a model-card block.

    Args:
        table: The aggregated rows.
        summary: The audit.
    """
    # Warnings come before the answer, the answer before the table.
    lines = [f"# {_escaped(summary.title)}", ""]
    for line in summary.lead:
        lines += [_escaped(line), ""]
    for warning in filter(None, (*summary.warnings, summary.older)):
        lines += [f"> **Warning.** {_escaped(warning)}", ""]
    for sentence in (*plain_answer(table, summary), reading(table, summary)):
        lines += [_escaped(sentence), ""]
    lines += _markdown_table(table, summary)
    lines += _file_lines(summary)
    # The evidence, a list per heading; empty ones are left out.
    parts = {
        "How sure is this?": certainty(table, summary),
        "Findings": sentences(table, summary),
        "What was not tested": not_tested(table, summary),
        "Notes on the method, and what was left out": summary.notes,
    }
    for title, items in parts.items():
        if not items:
            continue
        lines += ["", f"## {title}", "", *[f"- {_escaped(item)}" for item in items]]
    # The block for a model card.
    lines += [
        "",
        "## For a model card",
        "",
        "```yaml",
        model_card(table, summary).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _file_lines(summary: Summary) -> list[str]:
    """Return the table of variants that are files in their runtimes; empty if there are none."""
    files = file_table(summary)
    if files is None:
        return []
    lines = ["", f"## {files.title}", "", _escaped(files.note), ""]
    lines += [_row(list(files.header)), _row(["---"] * len(files.header))]
    for name, cells in files.lines:
        shown = [cell.main + (f" ({cell.small})" if cell.small else "") for cell in cells]
        lines.append(_row([name, *shown], escape=True))
    return lines


def model_card(table: Table, summary: Summary) -> str:
    """Return a YAML block for a model card, in the form of `model-index`.

    Args:
        table: The aggregated rows.
        summary: The audit.

    Returns:
        One result per variant, with accuracy, AUC and the TPR of the headline, each with its
        interval and its adversary under `args`.
    """
    results = []
    for name in (FULL, *map(str, table.quantized)):
        metrics = _metrics(table, summary, name)
        if metrics:
            results.append(
                {
                    "task": {
                        "type": "membership-inference",
                        "name": f"Membership inference, {name}",
                    },
                    "dataset": {"type": "audit", "name": summary.dataset},
                    "metrics": metrics,
                }
            )
    card = {"model-index": [{"name": summary.title, "results": results}]}
    return yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)


TEXT_FORMATS: Mapping[str, Callable[[Table, Summary], str]] = {
    "md": markdown_report,
    "card": model_card,
}
"""Forms of a report as text, by the name on the command line."""


def report_text(folder: Path, form: str) -> str:
    """Return the report of an audit as text.

    Args:
        folder: Output folder of an audit.
        form: One of `TEXT_FORMATS`.

    Raises:
        StoreError: A file is missing or broken.
    """
    complete(folder)
    return TEXT_FORMATS[form](tabulate(read_rows(folder, target=ALL)), read_summary(folder))


def _metrics(table: Table, summary: Summary, name: str) -> list[dict[str, Any]]:
    attack, reference = headline_key(table, summary)
    adversary = f"{attack}/{reference}" if reference else attack
    rate = Metric("tpr", summary.headline_fpr)
    metrics = []
    accuracy = table.find(name, TEST_ACCURACY)
    if accuracy is not None:
        metrics.append(_metric("accuracy", "test accuracy", accuracy, {"variant": name}))
    for metric, title in (
        (AUC, "AUC of membership inference"),
        (
            rate,
            f"training records picked out at {text.percent(summary.headline_fpr)} false positives",
        ),
    ):
        measure = table.find(name, metric, attack, reference)
        if measure is not None:
            arguments = {
                "variant": name,
                "adversary": adversary,
                "about": measure.about or "records",
            }
            metrics.append(_metric(str(metric), title, measure, arguments))
    return metrics


def _metric(kind: str, title: str, measure: Measure, arguments: dict[str, Any]) -> dict[str, Any]:
    ends = {}
    if measure.low is not None and measure.high is not None:
        ends = {"low": round(measure.low, 5), "high": round(measure.high, 5), "level": 0.95}
    value = round(measure.value, 5)
    return {"type": kind, "name": title, "value": value, "args": {**arguments, **ends}}


def _markdown_table(table: Table, summary: Summary) -> list[str]:
    columns = text_columns(table, summary)
    headings = [" ".join(filter(None, column.heading)) for column in columns]
    lines = [_row(headings), _row(["---"] * len(columns))]
    for index in range(len(columns[0].cells)):
        lines.append(_row([column.cells[index] for column in columns], escape=True))
    return lines


def _row(cells: list[str], *, escape: bool = False) -> str:
    shown = [_escaped(cell) if escape else cell for cell in cells]
    return f"| {' | '.join(shown)} |"


def _escaped(content: str) -> str:
    """Return text whose signs mean nothing in Markdown, on one line."""
    escaped = "".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in content)
    escaped = escaped.replace("](", "]\\(")
    return " ".join(escaped.split())
