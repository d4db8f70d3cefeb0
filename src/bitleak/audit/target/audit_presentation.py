"""An audit as a data frame, as sentences, and as a part of a notebook."""

import html
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bitleak.core.types import Measure, Row
from bitleak.report import Summary, compact_table, sentences, tabulate

if TYPE_CHECKING:
    import pandas


def data_frame(rows: Sequence[Row]) -> "pandas.DataFrame":
    """Return every figure with its interval: a line per release, attack, references and metric."""
    import pandas

    lines = []
    for row in rows:
        if row.target == "all":
            names = {
                "variant": row.variant,
                "quantizer": row.quantizer,
                "levels": row.levels,
                "attack": row.attack,
                "reference": row.reference,
                "metric": row.metric,
            }
            lines.append({**names, **asdict(row.measure)})
    return pandas.DataFrame(lines)


def named_figure(
    rows: Sequence[Row], metric: str, *, attack: str, variant: str, reference: str | None = None
) -> Measure:
    """Return one figure with its interval, the first if there are several kinds of references.

    Args:
        rows: Rows of the results.
        metric: Such as `auc`.
        attack: Name of the attack; empty for the accuracies.
        variant: Name of the release.
        reference: Kind of the references; None takes the first.

    Raises:
        KeyError: There is none; the message has the attacks that there are.
    """
    for row in rows:
        fits = (row.variant, row.attack, row.metric, row.target) == (variant, attack, metric, "all")
        if fits and reference in (None, row.reference):
            return row.measure
    known = sorted({row.attack for row in rows if row.variant == variant})
    raise KeyError(f"no {metric} of attack {attack!r} on {variant!r}; attacks: {', '.join(known)}")


def summary_text(summary: Summary, rows: Sequence[Row]) -> str:
    """Return the result in sentences: tier, limits, baseline, verdicts and warnings.

    Args:
        summary: Settings and sentences.
        rows: Rows with corrected verdicts; none if attacks are not evaluable.
    """
    lines = [*summary.lead, *(f"Warning: {warning}" for warning in summary.warnings)]
    if rows:
        cells = tabulate(rows)
        header, *body = compact_table(cells, summary)
        lines += ["", *_aligned([header, *body]), ""]
        lines += sentences(cells, summary)
    return "\n".join([*lines, *(f"Note: {note}" for note in summary.notes if note)])


def summary_html(summary: Summary, rows: Sequence[Row]) -> str:
    """Return the result for a notebook; arguments as for `summary_text`."""
    parts = [f"<h4>{html.escape(summary.title)}</h4>"]
    for line in (*summary.lead, *summary.warnings):
        parts.append(f"<p>{html.escape(line)}</p>")
    if rows:
        cells = tabulate(rows)
        header, *body = compact_table(cells, summary)
        parts.append("<table><thead><tr>")
        parts += [f"<th>{html.escape(cell)}</th>" for cell in header]
        parts.append("</tr></thead><tbody>")
        for row in body:
            row_cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            parts.append(f"<tr>{row_cells}</tr>")
        parts.append("</tbody></table>")
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences(cells, summary)]
    return "".join(parts)


def _aligned(lines: list[list[str]]) -> list[str]:
    """Return the lines of a table as text, columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        texts.append("  ".join(cells).rstrip())
    return texts
