"""The figures of a report, each as an SVG, a PNG and, if asked for, a PDF, whose bytes depend on the results alone."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from bitleak import registry
from bitleak.core.output_folder import write_atomically
from bitleak.report.figures.report_figure import DrawnFigure, Figure, FigureData, ReportFigure
from bitleak.report.figures.style import settings

__all__ = ["DrawnFigure", "FigureData", "ReportFigure", "draw", "load_figures", "write_figures"]

_PDF_METADATA = {"Creator": None, "Producer": None, "CreationDate": None}
_SVG_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def load_figures(further: Iterable[str] = ()) -> list[ReportFigure]:
    """Return the figures of the registry, in the order of the page, and further ones after them.

    Args:
        further: Figures from outside, as `package.module:NAME`.

    Raises:
        ValueError: A name is not known, names no `ReportFigure`, or two figures have the same name.
    """
    figures: dict[str, ReportFigure] = {}
    for source in (*registry.FIGURES, *further):
        figure = registry.resolve(registry.FIGURES, source, kind="figure")
        if not isinstance(figure, ReportFigure):
            kind = type(figure).__name__
            raise ValueError(f"figure {source}: expected a ReportFigure, got {kind}")
        if figure.name in figures:
            taken = f"there is another figure named {figure.name!r}"
            raise ValueError(f"figure {source}: {taken}; rename one of them")
        figures[figure.name] = figure
    return list(figures.values())


def draw(
    data: FigureData, figures: Sequence[ReportFigure], *, pdf: bool = False
) -> list[DrawnFigure]:
    """Draw the figures that the audit has something for.

    Args:
        data: Tables and curves of the audit.
        figures: See `load_figures`.
        pdf: Whether to draw PDFs, too.
    """
    import matplotlib  # here, since it takes long

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings would change the bytes
        matplotlib.rcParams.update(settings())  # type: ignore[arg-type]
        drawn = []
        for figure in figures:
            try:
                drawing = figure.draw(data)
            except Exception as error:
                error.add_note(f"(while the figure {figure.name!r} was drawn)")
                raise
            if drawing is not None:
                drawn.append(_in_all_forms(figure, drawing, pdf=pdf))
        return drawn


def write_figures(drawn: Iterable[DrawnFigure], folder: Path) -> None:
    """Write `figures/NAME.svg`, `.png` and, if it was drawn, `.pdf` into the folder.

    Raises:
        StoreError: The folder cannot be written to.
    """
    for image in drawn:
        path = folder / "figures" / image.figure.name
        write_atomically(path.with_name(f"{path.name}.svg"), image.svg)
        write_atomically(path.with_name(f"{path.name}.png"), image.png)
        if image.pdf:
            write_atomically(path.with_name(f"{path.name}.pdf"), image.pdf)


def _in_all_forms(figure: ReportFigure, drawing: Figure, *, pdf: bool) -> DrawnFigure:
    # The layout of the first form is that of the others.
    engine = drawing.get_layout_engine()
    if engine is not None:
        engine.execute(drawing)
        drawing.set_layout_engine(None)
    svg = _render(drawing, "svg", _SVG_METADATA)
    png = _render(drawing, "png", {"Software": None})
    paper = _render(drawing, "pdf", _PDF_METADATA) if pdf else b""
    return DrawnFigure(figure, svg, png, paper)


def _render(drawing: Figure, form: str, metadata: dict[str, None]) -> bytes:
    sink = io.BytesIO()
    drawing.savefig(sink, format=form, dpi=150, metadata=metadata)
    return sink.getvalue()
