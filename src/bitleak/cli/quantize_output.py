"""Output of `bitleak quantize` on a terminal: a bar of layers, tables of layers and of
precisions.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bitleak.core.types import Measure
from bitleak.single_network.network_figures import NetworkFigures, layer_figures
from bitleak.single_network.output_files import PrecisionResult
from bitleak.single_network.quantization_job import QuantizationJob

_WIDTH = 160
"""Characters per line if the output is not a terminal."""


class LayerClock:
    """A bar of layers on a terminal, a line per layer elsewhere; and the seconds of each layer.

    Args:
        quantizer: Name of the quantizer.
        levels: Levels of each result, in order.
    """

    def __init__(self, quantizer: str, levels: Sequence[int]) -> None:
        self._titles = [f"{quantizer}, {count} levels" for count in levels]
        self._seconds: list[dict[str, float]] = [{} for _ in levels]
        self._done = 0
        self._console = Console()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar_id = self._bar.add_task(quantizer, total=None)
        self._last = time.perf_counter()

    def __enter__(self) -> "LayerClock":
        if self._console.is_terminal:
            self._bar.start()
        self.start()
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

    def start(self) -> None:
        """Start the time of the next layer."""
        self._last = time.perf_counter()

    def on_layer(self, name: str, index: int, total: int) -> None:
        """Record the seconds since the previous layer, and show them.

        Quantizers may take turns, so the result is the first that has no seconds for this layer.
        """
        result = next(number for number, seconds in enumerate(self._seconds) if name not in seconds)
        title, seconds = self._titles[result], self._since()
        self._seconds[result][name] = seconds
        self._bar.update(
            self._bar_id, completed=index + 1, total=total, description=escape(f"{title}: {name}")
        )
        if not self._console.is_terminal:
            number, layers = len(self._seconds[result]), total // len(self._titles)
            print(f"{title}: layer {number} of {layers}, {name} ({seconds:.2f} s)", flush=True)

    def stop(self) -> dict[str, float]:
        """Return the seconds by layer of the result that is ready now, and its `total` with the
        time since then.
        """
        seconds, remaining = self._seconds[self._done], self._since()
        self._done += 1
        return {**seconds, "total": sum(seconds.values()) + remaining}

    def _since(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed


def print_job(job: QuantizationJob) -> None:
    """Print notes, and the numbers of calibration and test records."""
    console = _console()
    for note in job.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{len(job.calibration)} calibration images (source: {job.request.source}), {len(job.test)} test records",
        highlight=False,
    )
    if job.drawn:
        console.print(
            "the data has no held-out part, so the test records were drawn from it: a network that was trained on "
            "them looks better here than it is",
            highlight=False,
        )


def print_layers(job: QuantizationJob, result: PrecisionResult) -> None:
    """Print the table of layers of one precision."""
    lines = []
    for layer in layer_figures(result.quantized):
        facts = ", ".join(f"{key} {_short(value)}" for key, value in layer.facts.items())
        lines.append(
            (
                escape(layer.name),
                "x".join(map(str, layer.shape)),
                "full precision" if layer.levels is None else f"{layer.counted} of {layer.levels}",
                _short(layer.relative_error),
                _short(layer.damping),
                f"{result.seconds.get(layer.name, 0.0):.2f}",
                escape(facts),
            )
        )
    console = _console()
    console.print(f"\n{job.label}, {result.levels} levels:", highlight=False)
    names = ("layer", "shape", "levels used", "relative error", "damping", "seconds", "record")
    console.print(_table(names, lines, folded=("layer", "relative error", "levels used", "record")))


def print_precisions(
    job: QuantizationJob, full: NetworkFigures, results: Sequence[PrecisionResult], out: Path
) -> None:
    """Print accuracy before and after, agreement and sizes."""
    # Full precision first, then a line per precision.
    lines = [("fp32", _percent(full.accuracy), "", "", decimal(full.bytes), "32", "")]
    for result in results:
        figures = result.figures
        lines.append(
            (
                f"{job.label}-{result.levels}",
                _percent(figures.accuracy),
                f"{100 * (figures.accuracy.difference or 0.0):+.2f}",
                "" if figures.agreement is None else f"{100 * figures.agreement.value:.2f}",
                decimal(figures.bytes),
                f"{figures.bits_per_weight:.2f}",
                f"{result.seconds['total']:.1f}",
            )
        )
    # Long columns are folded, so that the table fits a terminal.
    console = _console()
    console.print()
    names = (
        "variant",
        "accuracy % (95 %)",
        "against fp32",
        "agreement %",
        "size",
        "bits per weight",
        "seconds",
    )
    console.print(_table(names, lines, folded=("against fp32", "agreement %", "bits per weight")))
    console.print(f"\n{out / 'summary.json'}", highlight=False)


def _console() -> Console:
    """Return a console: the terminal, or one with lines long enough for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _table(names: Sequence[str], lines: Sequence[Sequence[str]], *, folded: Sequence[str]) -> Table:
    """Return a table in which only the columns in `folded` may take several lines."""
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name not in folded, overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def _percent(measure: Measure) -> str:
    if measure.low is None or measure.high is None:
        return f"{100 * measure.value:.2f}"
    return f"{100 * measure.value:.2f} ({100 * measure.low:.2f} to {100 * measure.high:.2f})"


def _short(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
