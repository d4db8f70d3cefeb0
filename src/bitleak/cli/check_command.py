"""`bitleak check`: limits on a run's leakage and accuracy, for a person and for a pipeline."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bitleak.core.release_limits import Limit

CODES = {"pass": 0, "fail": 5, "inconclusive": 6, "not evaluable": 7}
"""Exit codes by outcome; 1 to 4 are those of every verb."""


def check_run(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The output folder of an audit.")],
    most: Annotated[
        list[str] | None,
        typer.Option(
            "--max",
            metavar="METRIC=LIMIT",
            help="Largest figure that may be released, such as auc=0.55 or tpr@0.01=0.02; may be given several times.",
        ),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(help="Largest loss of test accuracy from full precision, such as 0.01."),
    ] = None,
    no_worse_than: Annotated[
        str | None,
        typer.Option(
            metavar="fp32", help="Compare leakage with full precision, by the margins given."
        ),
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=MARGIN",
            help="How much more than full precision may leak, such as auc=0.01.",
        ),
    ] = None,
    adversary: Annotated[
        str | None,
        typer.Option(
            help="strongest (unless given), or an attack and its references, such as "
            "rmia-online/matched."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="A variant to check; may be given several times; all quantized ones unless given."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="A standard that outcomes are evidence for: aisvs (OWASP AISVS 1.0)."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, markdown, json or junit.")] = "text",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A file to write, besides the text on the terminal."),
    ] = None,
) -> int:
    """Test a run against limits, those of its config unless some are given.

    The exit code tells pass (0), fail (5), inconclusive (6) and not evaluable (7).
    """
    from bitleak.core.errors import ConfigError
    from bitleak.core.output_folder import write_atomically
    from bitleak.core.variants import STRONGEST
    from bitleak.report import read_rows, read_summary, tabulate
    from bitleak.report.aisvs_profile import PROFILES
    from bitleak.report.gate_formats import FORMATS, as_text
    from bitleak.report.release_gate import check_limits

    if form not in FORMATS:
        raise ConfigError(f"--format: expected {', '.join(FORMATS)}, got {form!r}")
    if profile is not None and profile not in PROFILES:
        raise ConfigError(f"--profile: expected {', '.join(PROFILES)}, got {profile!r}")
    limits = _limits(most or [], max_accuracy_drop, no_worse_than, margin or [])
    rows, summary = read_rows(folder), read_summary(folder)
    given = adversary or STRONGEST
    if not limits and summary.limits is not None:
        limits, given = summary.limits.limits, adversary or summary.limits.adversary
    result = check_limits(
        rows,
        summary,
        limits,
        adversary=given,
        variants=variant or [],
    )
    if profile is not None:
        result = PROFILES[profile](result, tabulate(rows), summary)
    content = FORMATS[form](result)
    if out is None:
        print(content.rstrip("\n"))
    else:
        write_atomically(out, content.encode())
        print(as_text(result))
    return CODES[result.outcome]


def _limits(
    most: Sequence[str],
    accuracy_drop: float | None,
    no_worse_than: str | None,
    margins: Sequence[str],
) -> tuple["Limit", ...]:
    """Return the limits of the command line; none if there are none.

    Raises:
        ConfigError: An option is not of the form NAME=NUMBER, or margins lack their baseline.
    """
    from bitleak.core.errors import ConfigError
    from bitleak.core.metric_names import TEST_ACCURACY
    from bitleak.core.release_limits import Limit

    if no_worse_than is not None and no_worse_than != "fp32":
        raise ConfigError(f"--no-worse-than: expected fp32, got {no_worse_than!r}")
    if (no_worse_than is None) != (not margins):
        raise ConfigError(
            "--no-worse-than fp32 and --margin METRIC=MARGIN belong together; give both"
        )
    limits = [Limit(*_named_number("--max", text)) for text in most]
    limits += [Limit(*_named_number("--margin", text), change=True) for text in margins]
    if accuracy_drop is not None:
        limits.append(Limit(str(TEST_ACCURACY), accuracy_drop))
    return tuple(limits)


def _named_number(option: str, text: str) -> tuple[str, float]:
    from bitleak.core.errors import ConfigError

    name, equals, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError as error:
        missing = "" if equals else " without `=`"
        raise ConfigError(
            f"{option}: expected METRIC=NUMBER, such as auc=0.55, got {text!r}{missing}"
        ) from error
