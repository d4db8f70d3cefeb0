"""Output on a terminal: bars of stages, durations, and the tables of an output folder."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

QUIET_SECONDS = 15.0
"""Seconds between lines if the output is not a terminal."""


class StageBars:
    """A bar per stage on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, *times, console=self._console, transient=True)
        self._stages: dict[str, int] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> "StageBars":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A bar that was not started would print an empty line.
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, done: float, stage: str) -> None:
        """Show the fraction of a stage that is done.

        Args:
            done: From 0 to 1.
            stage: Name of the stage.
        """
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=1.0)
        self._bar.update(self._bar.task_ids[self._stages[stage]], completed=done)
        if not self._console.is_terminal and time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            print(f"{stage}: {100 * done:.0f} %", flush=True)


def print_results(out: Path) -> None:
    """Print the results of a run: the findings first, the answer, the table and the page last."""
    # The report imports matplotlib, which commands with bars alone do not need.
    from bitleak.report import (
        plain_answer,
        read_rows,
        read_summary,
        sentences,
        tabulate,
        terminal_table,
    )

    console = Console()
    summary, cells = read_summary(out), tabulate(read_rows(out))
    for line in summary.lead:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for warning in filter(None, (*summary.warnings, summary.older)):
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    for sentence in sentences(cells, summary):
        console.print(sentence, highlight=False, markup=False)
    for note in summary.notes:
        console.print(f"note: {note}", highlight=False, markup=False)

    # The end stays on the screen.
    console.print()
    for sentence in plain_answer(cells, summary):
        console.print(sentence, highlight=False, markup=False)
    console.print()
    for line in terminal_table(cells, summary, console.width):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\n{out / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def duration(seconds: int | float) -> str:
    """Return seconds as a text for people.

    Example:
        >>> [duration(seconds) for seconds in (42, 190, 7300)]
        ['42 s', '3 min 10 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, remaining = divmod(round(seconds), 60)
    return (
        f"{minutes} min {remaining} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    )


def print_download(dataset: object, data: Path | None) -> None:
    """Print a line if the description of the data set may download it."""
    from bitleak.data.hub import Hub

    if isinstance(dataset, Hub) and dataset.is_remote(data):
        print(
            f"data: {dataset.path} is no folder here: downloads it from the Hub unless it is cached",
            flush=True,
        )
