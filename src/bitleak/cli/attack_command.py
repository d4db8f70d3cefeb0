"""`bitleak attack SCORES`: attacks on answers that were made elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bitleak.answers import ExpectedSeconds, PreparedAttack


def attack_answers(
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="SCORES", help="An .npz or Parquet file, or a folder; see docs/scores.md."
        ),
    ],
    targets: Annotated[
        str | None, typer.Option("--targets", help="Models to attack, such as 0,1; all.")
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(
            "--attacks", help="Such as lira,threshold,joint or lira-online-fixed; all that apply."
        ),
    ] = None,
    quantized: Annotated[
        Path | None,
        typer.Option("--quantized", help="The same of a quantized version of the same models."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="An .npy file with the true class of every record."),
    ] = None,
    clusters: Annotated[
        Path | None,
        typer.Option(
            "--clusters",
            help="An .npy file with a number per record, equal for records that depend on each other, such as copies.",
        ),
    ] = None,
    fpr: Annotated[
        str, typer.Option("--fpr", help="False-positive rates to report the TPR at.")
    ] = "0.001,0.01",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where tables, figures and report.html go; `audits/NAME`."),
    ] = None,
    power: Annotated[
        bool,
        typer.Option(
            "--power/--no-power", help="Whether attacks are also run with 1, 2, 4, ... references."
        ),
    ] = True,
    priors: Annotated[
        str | None,
        typer.Option("--priors", help="Shares of members to report precision for; 0.01,0.1,0.5."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="The delta at which epsilon is bounded; 1e-05.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", help="Further metrics, such as advantage or package.module:Name."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all draws.")] = 0,
) -> int:
    """Attack answers that were made elsewhere: no model, no training."""
    from bitleak.answers import AttackRequest, Scratch, prepare_attack, try_attacks, write_attack
    from bitleak.cli.terminal import StageBars, duration, print_results
    from bitleak.core.output_folder import check_out
    from bitleak.metrics import DELTA, PRIORS

    # Options as values; a wrong one is refused before the file is read.
    request = AttackRequest(
        scores=scores,
        quantized=quantized,
        labels=labels,
        clusters=clusters,
        targets=targets,
        attacks=None if attacks is None else tuple(part.strip() for part in attacks.split(",")),
        fprs=_numbers("--fpr", fpr),
        priors=PRIORS if priors is None else _numbers("--priors", priors),
        delta=DELTA if delta is None else delta,
        metrics=() if metrics is None else tuple(part.strip() for part in metrics.split(",")),
        seed=seed,
        power=power,
    )
    # Large arrays are kept in temporary files next to the output.
    folder = out or Path("audits") / scores.stem
    check_out(folder)
    with Scratch(folder) as scratch:
        prepared, expected = try_attacks(prepare_attack(request, scratch))
        _print_plan(prepared, expected, duration(expected.total))
        with StageBars() as steps:
            write_attack(prepared, folder, scratch, steps.show)
    print_results(folder)
    return 0


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from bitleak.core.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{option} must be numbers with commas between them, such as 0.001,0.01, got {text!r}"
        ) from None


def _print_plan(prepared: "PreparedAttack", expected: "ExpectedSeconds", in_all: str) -> None:
    """Print the models and records, warnings about them, and the expected time."""
    from bitleak.answers.class_membership import class_warning
    from bitleak.report.format import count

    answers, design = prepared.answers, prepared.design
    classes = f", {answers.classes} classes" if answers.classes else ""
    print(
        f"{answers.kind} of {count(len(answers.pool), 'model')}: {count(answers.records, 'record')}, "
        f"{answers.queries} per record{classes}, {count(answers.population_records, 'population record')}"
    )
    side = (
        f"{design.per_side()} references per side"
        if design.referenced
        else "no references: attacks that need none"
    )
    print(
        f"{count(len(design.targets), 'target')}, {side}, {count(len(prepared.attacks) + prepared.joint, 'attack')}, "
        f"{len(prepared.cases)} variants by adversaries"
    )
    # Doubts come before the expected time: they may be a reason to stop here.
    sentence = class_warning(prepared.by_class, answers, design)
    if sentence:
        print(f"warning: {sentence}")
    for doubt in prepared.doubts:
        print(f"warning: {doubt}")
    print(
        f"expected: {in_all} (reading {expected.reading:.0f} s, attacks {expected.attacking:.0f} s, "
        f"metrics {expected.measuring:.0f} s, measured on a sample; report {expected.reporting:.0f} s)",
        flush=True,
    )
