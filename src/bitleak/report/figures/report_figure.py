"""A figure of the report as a value: its name, its caption and its drawing.

To add one, write a file with such a value and name it in `registry.FIGURES`:

```
def draw_gap(data: FigureData) -> Figure | None:
    ...

GAP = ReportFigure("gap", "Train accuracy minus test accuracy, by variant.", draw_gap)
```
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bitleak.report.power_file import PowerRow
from bitleak.report.results_table import Table
from bitleak.report.row_files import RocCurve
from bitleak.report.summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure
else:
    Figure = Any  # commands that draw nothing do not wait for Matplotlib

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True)
class FigureData:
    """Everything of an audit that a figure may show.

    Attributes:
        table: The aggregated rows.
        curves: All ROC curves.
        summary: Names the headline attack, reference and FPR.
        power: The attacks by number of references; empty if this was not measured.
    """

    table: Table
    curves: Sequence[RocCurve]
    summary: Summary
    power: Sequence[PowerRow] = ()


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes:
        name: File name without its ending, and the name in `registry.FIGURES`.
        caption: Text below the figure, in sentences.
        draw: Returns the drawing, or None if the audit has nothing for it to show. It is called
            with Matplotlib's settings of all figures (`style.settings`) and must not depend on
            anything but its argument.
        section: Part of the page that shows it: `figures`, or `power` next to the tables of attacks
            by number of references.

    Raises:
        ValueError: The name is no file name in lower case, or the caption is empty.
    """

    name: str
    caption: str
    draw: Callable[[FigureData], Figure | None]
    section: Literal["figures", "power"] = "figures"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name of a figure must be lower-case letters, digits, underlines and hyphens, got {self.name!r}"
            )
        if not self.caption.strip():
            raise ValueError(f"figure {self.name} must have a caption, got none")


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in its forms.

    Attributes:
        figure: The figure that was drawn.
        svg: Content of the SVG file.
        png: Content of the PNG file.
        pdf: Content of the PDF file; empty if it was not drawn.
    """

    figure: ReportFigure
    svg: bytes
    png: bytes
    pdf: bytes = b""
