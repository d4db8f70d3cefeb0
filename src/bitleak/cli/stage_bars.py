"""How far a command with a few stages is: a bar on a terminal, elsewhere a line now and then."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 15.0
"""Seconds between lines where the output is not a terminal."""


class StageBars:
    """One bar per stage."""

    def __init__(self) -> None:
        self._console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        self._bar = Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console, transient=True
        )
        self._stages: dict[str, int] = {}
        self._told = time.monotonic()

    def __enter__(self) -> "StageBars":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:  # otherwise it was not started, and would print an empty line
            self._bar.stop()

    def show(self, done: float, what: str) -> None:
        """Shows the fraction done of a stage.

        Args:
            done: From 0 to 1.
            what: The stage.
        """
        if what not in self._stages:
            self._stages[what] = self._bar.add_task(what, total=1.0)
        self._bar.update(self._bar.task_ids[self._stages[what]], completed=done)
        if not self._console.is_terminal and time.monotonic() - self._told > QUIET_SECONDS:
            self._told = time.monotonic()
            print(f"{what}: {100 * done:.0f} %", flush=True)
