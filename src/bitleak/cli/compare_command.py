"""`bitleak compare`: the figures of two runs, with intervals of their differences."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitleak.cli.options import Adversary

if TYPE_CHECKING:
    from bitleak.report.run_comparison import RunComparison


def compare_two_runs(
    first: Annotated[Path, typer.Argument(metavar="A", help="The output folder of an audit.")],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="The output folder of another audit.")
    ],
    adversary: Adversary = "strongest",
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=NAME]",
            help="A variant of both runs, or one of A and one of B; by default all that both have.",
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> int:
    """Compare two runs: every figure of B minus that of A, with intervals and corrected verdicts."""
    # Imported here, since `bitleak --help` must not wait for them.
    from bitleak.core.errors import ConfigError
    from bitleak.report import read_influences, read_rows, read_summary
    from bitleak.report.run_comparison import compare_runs

    if form not in ("text", "json"):
        raise ConfigError(f"--format: expected text or json, got {form!r}")
    # Files of both runs, then the comparison as text or JSON.
    result = compare_runs(
        (read_rows(first), read_summary(first)),
        (read_rows(second), read_summary(second)),
        adversary=adversary,
        variants=_pairs(variant or []),
        influences=(read_influences(first), read_influences(second)),
    )
    if form == "json":
        print(json.dumps(asdict(result), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print_comparison(result, (first, second))
    return 0


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        old, _, new = text.partition("=")
        pairs.append((old, new or old))
    return pairs


def _print_comparison(result: "RunComparison", folders: tuple[Path, Path]) -> None:
    """Print a table of at most 80 columns, unless a name is long, and the notes."""
    for letter, folder, title, adversary in zip(
        "AB", folders, result.titles, result.adversaries, strict=True
    ):
        print(f"{letter}: {folder}: {title} (adversary {adversary})")
    width = max(len(entry.variant) for entry in result.differences)
    metric = ""
    for entry in result.differences:
        if entry.metric != metric:
            metric = entry.metric
            print(f"\n{metric:<{width}}  {'A':>7}  {'B':>7}  {'B - A':<27}  verdict")
        interval = f"{entry.value:+.4f} [{entry.low:+.4f}, {entry.high:+.4f}]"
        values = f"{entry.first.value:7.4f}  {entry.second.value:7.4f}"
        print(f"{entry.variant:<{width}}  {values}  {interval:<27}  {entry.verdict}")
    print()
    for note in result.notes:
        print(f"note: {note}")
