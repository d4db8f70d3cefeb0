"""Output of an audit on a terminal: the plan, a bar of tasks, and failures."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bitleak.attacks import effective_number
from bitleak.audit import Forecast, Prepared
from bitleak.audit.audit_warnings import newer_code
from bitleak.audit.part_of_models import PART_STAGES
from bitleak.audit.reference_pilot import NeededReferences
from bitleak.cli.terminal import QUIET_SECONDS, duration
from bitleak.core.plurals import count
from bitleak.core.types import Description
from bitleak.core.variants import partly_kind
from bitleak.data.data_notes import data_lines
from bitleak.engine.execution import Event, Report
from bitleak.engine.store import Store
from bitleak.metrics import ReferenceCurve


class TaskBar:
    """A progress bar on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._console = Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._bar_id = self._bar.add_task("starting", total=None, left="")
        self._last_line = time.monotonic()

    def __enter__(self) -> "TaskBar":
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

    def on_event(self, event: Event) -> None:
        """Show an event of the engine."""
        left = "" if event.remaining is None else f"{duration(event.remaining)} left"
        task = event.task.name if event.task else ""
        self._bar.update(self._bar_id, completed=event.done, total=event.total, left=left)
        if task:
            self._bar.update(self._bar_id, description=task)
        if event.kind == "finished" and event.outcome is not None and not event.outcome.ok:
            self._console.print(
                f"failed: {task}: {event.outcome.text}", highlight=False, markup=False
            )
        if event.kind == "repair" and event.outcome is not None:
            self._console.print(
                f"damaged, made again: {task} ({event.outcome.text})",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        due = time.monotonic() - self._last_line > QUIET_SECONDS
        if not self._console.is_terminal and due:
            self._last_line = time.monotonic()
            print(
                f"{event.done} of {event.total} tasks done, {left or 'time left not known yet'}",
                flush=True,
            )


def print_forecast(prepared: Prepared, forecast: Forecast) -> None:
    """Print the plan: tasks to do and cached, expected time, disk and memory."""
    # The size of the audit, and the tasks by stage.
    console = Console()
    sizes = prepared.plan.scale
    console.print(
        f"{sizes.pool} records in the pool, {sizes.members} members per model, "
        f"{len(prepared.plan.targets)} targets, {len(prepared.plan.references)} models that serve as references",
        highlight=False,
    )
    table = Table("stage", "to do", "cached", box=None, pad_edge=False)
    for stage, (left, cached) in forecast.todo.items():
        table.add_row(stage, str(left), str(cached))
    console.print(table)
    # The expected time with the origin of its rates; disk and memory.
    basis = (
        "at the rates measured in this store"
        if forecast.measured
        else "at the rates of a common machine"
    )
    free = "" if forecast.free is None else f" ({forecast.free / 1e9:.0f} GB free)"
    workers = "1 worker" if forecast.workers == 1 else f"{forecast.workers} workers"
    if prepared.runtime.device.startswith("cuda"):
        workers += f", {forecast.seconds / 3600:.1f} GPU hours in all"
    console.print(
        f"expected: {duration(forecast.hours * 3600)} on {workers} ({basis}), {forecast.disk / 1e9:.2f} GB of disk"
        f"{free}, {forecast.memory / 1e9:.1f} GB of memory",
        highlight=False,
    )
    # The power that partly quantized references give up.
    split = prepared.config.split
    available = split.models - 2 if split.mode == "population" else split.shadows
    for quantized in prepared.config.partly_quantized:
        console.print(quantized_line(quantized, available), highlight=False)


def quantized_line(quantized: int, available: int) -> str:
    """Return a line on the references that a number of quantized ones is worth.

    Args:
        quantized: Quantized references of a target.
        available: All references of a target.

    Example:
        >>> quantized_line(16, 62).split("; ")[0]
        'matched-16: 16 of 62 references are quantized'
    """
    worth = {r: effective_number(r, quantized // 2, available // 2) for r in (0.0, 0.75, 0.9, 1.0)}
    return (
        f"{partly_kind(quantized)}: {quantized} of {available} references are quantized; per side they are worth "
        f"{worth[0.0]:.0f} where the quantized answers of the others cannot be predicted (r = 0), "
        f"{worth[0.75]:.1f} at r = 0.75, {worth[0.9]:.1f} at r = 0.9, and {worth[1.0]:.0f} at r = 1"
    )


def print_needed_references(
    attack: str, curve: ReferenceCurve, rows: Sequence[NeededReferences]
) -> None:
    """Print AUC and time by number of quantized references."""
    # The fitted curve, then a line per number of references.
    console = Console()
    limit = curve.limit
    console.print(
        f"references: {attack} at full precision, AUC(n) = A - B / n with n references per side, fitted "
        f"to the pilot's {len(curve.limits)} targets: A = {limit.value:.3f} [{limit.low:.3f}, {limit.high:.3f}], "
        f"B = {curve.losses.mean():.3f}",
        highlight=False,
    )
    table = Table("quantized references", "per side", "AUC by these alone", "time on one worker")
    table.box, table.pad_edge = None, False
    for row in rows:
        table.add_row(
            "all (matched)" if row.quantized is None else str(row.quantized),
            str(row.per_side),
            f"{row.area.value:.3f} [{row.area.low:.3f}, {row.area.high:.3f}]",
            duration(row.seconds),
        )
    console.print(table)
    console.print(
        "With {kind: matched, quantized: K} the other references' answers are predicted, which adds to "
        "the AUC. Intervals are Student's t over the pilot's targets.",
        highlight=False,
    )


def print_notes(prepared: Prepared, store: Store | None) -> None:
    """Print notes on the data and the network, and whether its code is newer than its results."""
    print_data(prepared.description)
    for note in (*prepared.notes, *prepared.warnings):
        print(f"note: model: {note}")
    for note in newer_code(prepared, store) if store else ():
        print(f"note: {note}")


def print_data(description: Description) -> None:
    """Print columns, classes, images per class, and records that were left out or renumbered."""
    for line in data_lines(description):
        print(f"data: {line}")


def print_left(prepared: Prepared, report: Report) -> None:
    """Print the tasks that there was no time for."""
    stages = Counter(task.stage for task in prepared.plan.tasks if task.key in set(report.left))
    counts = ", ".join(f"{count} {stage}" for stage, count in stages.items())
    seconds = "" if report.seconds is None else f", about {duration(report.seconds)}"
    print(
        f"time is up: {len(report.done)} tasks done, {len(report.left)} left ({counts}{seconds}); "
        "the same command goes on from here"
    )


def print_part(config: Path, store: str, rows: Sequence[int]) -> None:
    """Print how the answers of some models come into the store of the whole audit."""
    stages = " ".join(f"--stage {stage}" for stage in PART_STAGES)
    models = count(len(rows), "model")
    print(
        f"answers of {models} are in {store}; to take them to another store:\n"
        f"  bitleak store export FILE --store {store} --audit {config} {stages}"
    )


def print_failures(prepared: Prepared, report: Report) -> None:
    """Print each failed task with its reason and its log."""
    labels = {task.key: task.label for task in prepared.plan.tasks}
    print(
        f"error: {len(report.failed)} tasks failed, {len(report.not_run)} were not run for it, "
        f"{len(report.done)} done, {len(report.cached)} cached",
        file=sys.stderr,
    )
    for outcome in report.failed:
        where = f" (log: {outcome.log})" if outcome.log else ""
        print(f"error: {labels[outcome.key]}: {outcome.text}{where}", file=sys.stderr)
