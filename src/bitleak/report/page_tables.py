"""Tables and sections of the page as plain data."""

from dataclasses import dataclass
from typing import Any

from bitleak.core.types import Measure
from bitleak.report import format as text


@dataclass(frozen=True)
class Cell:
    """One cell of a table of the page.

    Attributes:
        main: The figure.
        small: Its interval, printed below; may be empty.
        mark: `lower`, `higher` or empty: how the cell is marked.
    """

    main: str
    small: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of the page.

    Attributes:
        title: Its heading.
        note: A sentence below the heading; may be empty.
        header: Titles of the columns, that of the names first.
        lines: A name and the cells of the other columns.
    """

    title: str
    note: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page that answers a question of its own.

    Attributes:
        title: Its heading.
        paragraphs: What was done, and how to read it.
        sentences: What was found, a line each; also for the terminal.
        grids: The figures.
    """

    title: str
    paragraphs: tuple[str, ...]
    sentences: tuple[str, ...]
    grids: tuple[Grid, ...]


def figure_cell(measure: Measure | None, decimals: int, **options: Any) -> Cell:
    """The figure with its interval below it."""
    return Cell(text.value(measure, decimals, **options), text.interval(measure, decimals, **options))


def change_cell(measure: Measure | None, decimals: int, *, factor: float = 1.0) -> Cell:
    """The verdict, with the paired difference below it."""
    if measure is None or not measure.verdict:
        return Cell(text.DASH)
    mark = measure.verdict if measure.verdict in ("lower", "higher") else ""
    return Cell(measure.verdict, text.difference(measure, decimals, factor=factor), mark)
