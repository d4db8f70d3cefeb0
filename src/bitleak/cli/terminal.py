"""What came out, for a terminal: tables, sentences and durations."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from bitleak.report import compact_table, read_rows, read_summary, sentences, tabulate


def print_results(out: Path) -> None:
    """The warnings, the compact table and the verdicts of an output folder."""
    console = Console()
    summary, cells = read_summary(out), tabulate(read_rows(out))
    header, *lines = compact_table(cells, summary)
    for warning in filter(None, (*summary.warnings, summary.older)):
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    table = Table(*header, box=None, pad_edge=False)
    for line in lines:
        table.add_row(*line)
    console.print()
    console.print(table)
    console.print()
    for sentence in sentences(cells, summary):
        console.print(sentence, highlight=False)
    for note in summary.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print(f"\n{out / 'report.html'}", highlight=False)


def duration(seconds: int | float) -> str:
    """Seconds for people.

    Example:
        >>> [duration(seconds) for seconds in (42, 190, 7300)]
        ['42 s', '3 min 10 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
