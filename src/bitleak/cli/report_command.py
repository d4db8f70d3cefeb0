"""`bitleak report DIR`: figures and page again, from the tables that an audit left."""

from pathlib import Path
from typing import Annotated

import typer


def write_again(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an audit.")]) -> int:
    """Make the figures and report.html again from an audit's tables."""
    from bitleak.report import write_report

    write_report(folder)
    print(f"{folder / 'report.html'}")
    return 0
