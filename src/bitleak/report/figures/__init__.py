"""The figures of a report, each as an SVG and a PNG whose bytes depend on the results alone."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from bitleak.report.figures.bars import bars
from bitleak.report.figures.power_curves import power
from bitleak.report.figures.roc_curves import roc
from bitleak.report.figures.style import settings
from bitleak.report.figures.tradeoff import tradeoff
from bitleak.report.output_folder import write_atomically
from bitleak.report.power_file import PowerRow
from bitleak.report.results_table import FULL, Table
from bitleak.report.row_files import RocCurve
from bitleak.report.summary import Summary

NAMES = ("tradeoff", "roc", "bars", "power")
"""File names without their endings, in the order of the page."""

_SVG_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def draw(
    table: Table, curves: Sequence[RocCurve], summary: Summary, powered: Sequence[PowerRow] = ()
) -> dict[str, tuple[bytes, bytes]]:
    """Every figure as the bytes of an SVG and of a PNG, by name; no trade-off where no accuracy is known.

    Args:
        table: The aggregated rows.
        curves: ROC curves; those of `target = all` under the headline attack and reference are drawn.
        summary: Names the headline attack, reference and FPR.
        powered: The attacks by number of references; without them there is no such figure.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings would change the bytes
        matplotlib.rcParams.update(settings())  # type: ignore[arg-type]
        figures = {
            **({"tradeoff": tradeoff(table, summary)} if table.find(FULL, "test_accuracy") else {}),
            "roc": roc(table, curves, summary),
            "bars": bars(table, summary),
            **({"power": power(powered, summary)} if powered else {}),
        }
        for figure in figures.values():
            figure.draw_without_rendering()
            figure.set_layout_engine(None)  # what has been laid out once stays where it is in both forms
        return {name: (_render(figure, "svg"), _render(figure, "png")) for name, figure in figures.items()}


def write_figures(drawn: Mapping[str, tuple[bytes, bytes]], folder: Path) -> None:
    """Write `figures/NAME.svg` and `figures/NAME.png` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    for name in set(NAMES) - set(drawn):  # of an earlier run into the same folder
        for form in ("svg", "png"):
            (folder / "figures" / f"{name}.{form}").unlink(missing_ok=True)
    for name, (svg, png) in drawn.items():
        write_atomically(folder / "figures" / f"{name}.svg", svg)
        write_atomically(folder / "figures" / f"{name}.png", png)


def _render(figure: Figure, form: str) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format=form, dpi=150, metadata=_SVG_METADATA if form == "svg" else {"Software": None})
    return sink.getvalue()
