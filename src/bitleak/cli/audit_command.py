"""`bitleak audit CONFIG`, `bitleak demo`, `bitleak plan CONFIG` and `bitleak report DIR`."""

import time
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bitleak.cli.exit_codes import LEFT
from bitleak.cli.options import (
    STORE,
    Address,
    Budget,
    Data,
    Device,
    ExecutorName,
    Memory,
    ModelRows,
    NumCpus,
    NumGpus,
    Settings,
    StoreFolder,
    Workers,
    rows_of,
)

if TYPE_CHECKING:
    from bitleak.config import Config

POPULATION_ROWS = "--models is for configs without a target: it names rows of a population"
"""Message of `audit` and `plan`."""

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Where tables, figures and report.html go; `audits/NAME` unless given."
    ),
]


TierOption = Annotated[
    int | None,
    typer.Option(
        "--tier",
        min=0,
        max=2,
        help="For a config with a target, your own model: 0 trains nothing, 1 a few references, 2 a population.",
    ),
]


Pilot = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The output folder of a smaller audit of the same kind: also show the AUC and the hours by "
        "number of quantized references.",
    ),
]
PlanTier = Annotated[
    int,
    typer.Option("--tier", min=1, max=2, help="For a config with a target: the tier to plan."),
]


def run_audit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see examples/.")],
    out: Out = None,
    tier: TierOption = None,
    store: StoreFolder = STORE,
    data: Data = None,
    executor: ExecutorName = "processes",
    workers: Workers = None,
    memory: Memory = None,
    budget: Budget = None,
    device: Device = "auto",
    models: ModelRows = None,
    address: Address = None,
    num_cpus: NumCpus = 1.0,
    num_gpus: NumGpus = None,
    set_: Settings = None,
) -> int:
    """Train, quantize, attack and report; results in the store are not made again."""
    share = _Share(address, num_cpus, num_gpus)
    options = _Options(store, data, executor, workers, memory, budget, device, share, set_, models)
    return _run(config, out or Path("audits") / config.stem, options, tier)


def demo(
    out: Out = None,
    store: StoreFolder = STORE,
    data: Data = None,
    executor: ExecutorName = "processes",
    workers: Workers = None,
    memory: Memory = None,
    budget: Budget = None,
    device: Device = "auto",
    address: Address = None,
    num_cpus: NumCpus = 1.0,
    num_gpus: NumGpus = None,
    set_: Settings = None,
) -> int:
    """The whole audit on the digits that come with scikit-learn: one to two minutes on two cores."""
    with resources.as_file(resources.files("bitleak") / "demo.yaml") as config:
        share = _Share(address, num_cpus, num_gpus)
        options = _Options(store, data, executor, workers, memory, budget, device, share, set_)
        return _run(config, out or Path("audits") / "demo", options)


def show_plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see examples/.")],
    store: StoreFolder = STORE,
    data: Data = None,
    workers: Workers = None,
    device: Device = "auto",
    models: ModelRows = None,
    tier: PlanTier = 2,
    pilot: Pilot = None,
    set_: Settings = None,
) -> int:
    """Show the tasks to do and cached, the expected hours, disk and memory; do nothing."""
    from bitleak import audit as library
    from bitleak.audit.part_of_models import of_models
    from bitleak.audit.preparation import dataset_of
    from bitleak.audit.reference_pilot import needed_references, pilot_curve
    from bitleak.cli.audit_progress import (
        print_forecast,
        print_needed_references,
        print_notes,
    )
    from bitleak.cli.terminal import print_download
    from bitleak.config import override, read_config, validate
    from bitleak.core.errors import ConfigError
    from bitleak.core.leftovers import temporary_folder
    from bitleak.engine.store import Store, is_url

    raw = override(read_config(config), set_ or [])
    checked = validate(raw)
    if pilot is not None and checked.target is not None:
        raise ConfigError(
            "--pilot is for configs without a target: it counts models of a population"
        )
    if models is not None and checked.target is not None:
        raise ConfigError(POPULATION_ROWS)
    rows = None if models is None else rows_of(models)
    curve = None if pilot is None else pilot_curve(pilot, checked.headline.attack)
    print_download(dataset_of(checked), data)
    if checked.target is not None:
        from bitleak.cli.target_command import plan_target

        with temporary_folder() as scratch:
            prepared = plan_target(checked, tier, scratch, data=data, device=device)
    else:
        prepared = library.prepare(checked, data=data, device=device, on_this_machine=False)
    if rows is not None:
        prepared = of_models(prepared, rows)
    # A plan makes no store, so a missing one has no results.
    opened = Store(store, create=False) if is_url(store) or Path(store).exists() else None
    print_forecast(
        prepared,
        library.forecast(prepared, opened, workers=library.worker_count(prepared, workers)),
    )
    print_notes(prepared, opened)
    if curve is not None:

        def seconds(changed: "Config") -> float:
            planned = library.prepare(changed, data=data, device=device, on_this_machine=False)
            return library.forecast(planned, opened, workers=1).seconds

        print_needed_references(
            checked.headline.attack, curve, needed_references(raw, curve, seconds)
        )
    return 0


def write_report_again(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output folder of an audit.")],
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE.MODULE:NAME", help="A figure of your own; may be given several times."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="html writes figures and report.html; md and card print Markdown, or YAML for a model card.",
        ),
    ] = "html",
    pdf: Annotated[bool, typer.Option("--pdf", help="Write the figures as PDF, too.")] = False,
) -> int:
    """Make the figures and report.html again from an audit's tables, or print them as text."""
    from bitleak.core.errors import ConfigError
    from bitleak.report import load_figures, write_report
    from bitleak.report.text_report import TEXT_FORMATS, report_text

    if form not in ("html", *TEXT_FORMATS):
        known = ", ".join(("html", *TEXT_FORMATS))
        raise ConfigError(f"--format: expected {known}, got {form!r}")
    figures = figure or []
    if form != "html":
        if figures or pdf:
            raise ConfigError(f"--figure and --pdf need --format html, got {form}")
        print(report_text(folder, form), end="")
        return 0
    try:
        # A wrong name is refused before anything of the old report is replaced.
        load_figures(figures)
    except ValueError as error:
        raise ConfigError(f"--figure: {error}") from error
    write_report(folder, figures=figures, pdf=pdf)
    print(f"{folder / 'report.html'}")
    return 0


class _Share(NamedTuple):
    """A Ray cluster, and the share of it that a task takes."""

    address: str | None
    num_cpus: float
    num_gpus: float | None


class _Options(NamedTuple):
    """Options besides the config and the output folder."""

    store: str
    data: Path | None
    executor: str
    workers: int | None
    memory: str | None
    budget: str | None
    device: str
    share: _Share
    settings: list[str] | None
    models: str | None = None


def _run(config: Path, out: Path, options: _Options, tier: int | None = None) -> int:
    from bitleak.config import override, read_config, validate
    from bitleak.core.errors import ConfigError

    # A target has tiers of its own, of which the last one is an audit like any other.
    start = time.monotonic()
    checked = validate(override(read_config(config), options.settings or []))
    rows = None if options.models is None else rows_of(options.models)
    if rows is not None and (checked.target is not None or tier is not None):
        raise ConfigError(POPULATION_ROWS)
    if (tier is not None or checked.target is not None) and tier != 2:
        from bitleak.cli.target_command import RunOptions, run_target

        limits = _checked_limits(options)
        share = options.share._asdict()
        run = RunOptions(options.store, options.executor, options.workers, *limits, share)
        return run_target(
            checked, tier or 0, out, data=options.data, device=options.device, options=run
        )
    # The process that workers are forked from is loaded meanwhile, on another core.
    if options.executor == "processes":
        from bitleak.engine.executors.fork_server import open_fork_server
        from bitleak.engine.worker import Runtime

        open_fork_server(Runtime.stages)
    from bitleak import audit as library
    from bitleak.audit.part_of_models import of_models
    from bitleak.audit.preparation import dataset_of
    from bitleak.cli.audit_progress import (
        TaskBar,
        print_forecast,
        print_left,
        print_notes,
        print_part,
    )
    from bitleak.cli.terminal import print_download, print_results

    # All that can be refused by its text alone comes first.
    memory, budget = _checked_limits(options)
    ray = options.executor == "ray"
    # Then the data set and the network; the folder and the store last, since they are made.
    print_download(dataset_of(checked), options.data)
    if tier == 2:
        from bitleak.cli.target_command import prepare_population

        prepared = prepare_population(checked, data=options.data, device=options.device)
    else:
        prepared = library.prepare(
            checked, data=options.data, device=options.device, on_this_machine=not ray
        )
    prepared = replace(prepared, runtime=replace(prepared.runtime, **options.share._asdict()))
    if rows is None:
        library.check_out(out)
    else:
        prepared = of_models(prepared, rows)
    opened = library.open_store(options.store)
    count = library.worker_count(prepared, options.workers)
    print_forecast(prepared, library.forecast(prepared, opened, workers=count))
    print_notes(prepared, opened)
    # The budget counts from the start of the command.
    with TaskBar() as watch:
        report = library.run_prepared(
            prepared,
            opened,
            partial(library.write_results, prepared, opened, out)
            if rows is None
            else _write_nothing,
            executor=options.executor,
            workers=options.workers,
            memory=memory,
            budget=None if budget is None else max(0.0, budget - (time.monotonic() - start)),
            on_event=watch.on_event,
        )
    if report.failed:
        return _failed(prepared, report)
    if report.left:
        print_left(prepared, report)
        return LEFT
    if rows is None:
        print_results(out)
    else:
        print_part(config, options.store, rows)
    return 0


def _write_nothing() -> None:
    """Write no report: the answers of some models are in the store, and that is all."""


def _checked_limits(options: _Options) -> tuple[int | None, float | None]:
    """Return the limits of memory in bytes and of time in seconds; refuse options by their text.

    Raises:
        ConfigError: One is wrong.
    """
    from bitleak.cli.options import bytes_of, seconds_of
    from bitleak.core.errors import ConfigError
    from bitleak.registry import EXECUTORS, resolve

    try:
        resolve(EXECUTORS, options.executor, kind="executor")
    except ValueError as error:
        raise ConfigError(f"--executor: {error}") from None
    try:
        memory = None if options.memory is None else bytes_of(options.memory, "--memory")
        budget = None if options.budget is None else seconds_of(options.budget, "--budget")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if options.executor != "ray" and options.share != _Share(None, 1.0, None):
        raise ConfigError("--address, --num-cpus and --num-gpus are for --executor ray")
    return memory, budget


def _failed(prepared: Any, report: Any) -> int:
    from bitleak.cli.audit_progress import print_failures

    print_failures(prepared, report)
    return 2 if all(outcome.kind == "input" for outcome in report.failed) else 1
