"""`bitleak audit CONFIG --tier N` for a config with a target: a model that was trained elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bitleak.audit import Prepared
    from bitleak.config import Config


class RunOptions(NamedTuple):
    """Options of the tasks of a target's references.

    Attributes:
        store: Folder or URL of the store.
        executor: Name of the executor.
        workers: Number of processes, or None.
        memory: Bytes that they may use together, or None.
        budget: Seconds, or None.
        share: Fields of `Runtime` for a Ray cluster.
    """

    store: str
    executor: str
    workers: int | None
    memory: int | None
    budget: float | None
    share: Mapping[str, Any]


def run_target(
    config: "Config",
    tier: int,
    out: Path,
    *,
    data: Path | None,
    device: str,
    options: RunOptions,
) -> int:
    """Audit the target of a config, write its folder, and print the result.

    Args:
        config: A validated config.
        tier: 0 or 1.
        out: Output folder.
        data: Local folder or file that overrides the data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        options: How the references of tier 1 are made.

    Returns:
        The exit code.

    Raises:
        InputError: The target cannot be read or audited.
    """
    from bitleak.audit.target import audited_target, read_config_target
    from bitleak.cli.terminal import StageBars, print_results
    from bitleak.core.output_folder import check_out

    target = read_config_target(config, 1 if tier else 0, data=data, device=device)
    check_out(out)
    if tier:
        return _with_references(config, target, out, data=data, device=device, options=options)
    with StageBars() as bars:
        result = audited_target(target, bars.show)
    result.report(out)
    print_results(out)
    return 0


def _with_references(
    config: "Config",
    target: Any,
    out: Path,
    *,
    data: Path | None,
    device: str,
    options: RunOptions,
) -> int:
    """Audit a target in tier 1; the checks come before the plan, and the plan before the work."""
    from dataclasses import replace

    from bitleak.audit import forecast, open_store, worker_count
    from bitleak.audit.target import audited_target
    from bitleak.audit.target.reference_tasks import (
        UnfinishedReferences,
        answered_references,
        prepare_references,
    )
    from bitleak.audit.target.target_run import checked_target, is_evaluable
    from bitleak.cli.audit_progress import TaskBar, print_forecast, print_notes
    from bitleak.cli.terminal import StageBars, print_results
    from bitleak.core.leftovers import temporary_folder

    checked = checked_target(target)
    with temporary_folder() as scratch:
        references: Mapping[str, Sequence[Any]] = {}
        if is_evaluable(target, checked.baseline):
            work = prepare_references(config, target, scratch, data=data, device=device)
            runtime = replace(work.prepared.runtime, **options.share)
            work = replace(work, prepared=replace(work.prepared, runtime=runtime))
            store = open_store(options.store)
            count = worker_count(work.prepared, options.workers)
            print_forecast(work.prepared, forecast(work.prepared, store, workers=count))
            print_notes(work.prepared, store)
            try:
                with TaskBar() as watch:
                    references = answered_references(
                        work,
                        target,
                        store,
                        executor=options.executor,
                        workers=options.workers,
                        memory=options.memory,
                        budget=options.budget,
                        on_event=watch.on_event,
                    )
            except UnfinishedReferences as unfinished:
                return _unfinished(unfinished)
        with StageBars() as bars:
            result = audited_target(
                target, bars.show, checked=checked, references=lambda: references
            )
    result.report(out)
    print_results(out)
    return 0


def _unfinished(unfinished: Any) -> int:
    """Print the failures, or the tasks that there was no time for; return the exit code."""
    from bitleak.cli.audit_progress import print_failures, print_left
    from bitleak.cli.exit_codes import LEFT

    report = unfinished.report
    if report.failed:
        print_failures(unfinished.prepared, report)
        return 2 if all(outcome.kind == "input" for outcome in report.failed) else 1
    print_left(unfinished.prepared, report)
    return LEFT


def plan_target(
    config: "Config", tier: int, scratch: Path, *, data: Path | None, device: str
) -> "Prepared":
    """Check the target of a config, and return the tasks of tier 1 or 2.

    Args:
        config: A validated config.
        tier: 1 or 2.
        scratch: Folder for the target's answers, which imitated references learn from.
        data: Local folder or file that overrides the data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The target cannot be read or audited.
    """
    if tier == 2:
        return prepare_population(config, data=data, device=device)
    from bitleak.audit.target import read_config_target
    from bitleak.audit.target.reference_tasks import prepare_references
    from bitleak.audit.target.target_run import checked_target

    target = read_config_target(config, 1, data=data, device=device)
    checked_target(target)
    return prepare_references(config, target, scratch, data=data, device=device).prepared


def prepare_population(config: "Config", *, data: Path | None, device: str) -> "Prepared":
    """Check the target of a config, and prepare the audit of tier 2 around it.

    Args:
        config: A validated config.
        data: Local folder or file that overrides the data set.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: The target cannot be read or audited.
    """
    from dataclasses import replace

    from bitleak.audit import prepare
    from bitleak.audit.graph import population_config
    from bitleak.audit.target import checked_lead, planned_target, read_config_target

    target = read_config_target(config, 2, data=data, device=device)
    config = replace(config, train=target.plan.recipe or config.train)
    planned = planned_target(config, target)
    lead = checked_lead(config, target)
    return prepare(population_config(config), data=data, device=device, target=planned, lead=lead)
