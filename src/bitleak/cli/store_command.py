"""`bitleak store ls|verify|remove|export|import|gc`."""

from pathlib import Path
from typing import Annotated

import typer

from bitleak.cli.options import STORE, Data, Settings, StoreFolder

store_app = typer.Typer(help="Look at, check and clean the store.", no_args_is_help=True)


@store_app.command()
def ls(store: StoreFolder = STORE) -> int:
    """List the store's results by stage, with sizes."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from bitleak.engine.store import Store

    table = Table("stage", "results", "size", box=None, pad_edge=False)
    opened = Store(store, create=False)
    entries, unreadable = opened.inventory()
    sizes = opened.sizes(entries)
    for stage, (count, size) in sizes.items():
        table.add_row(stage, str(count), decimal(size))
    table.add_row(
        "all", str(sum(c for c, _ in sizes.values())), decimal(sum(s for _, s in sizes.values()))
    )
    Console().print(table)
    if unreadable:
        print(
            f"{unreadable} more cannot be read: `bitleak store verify` names them, `--remove` has them made again"
        )
    return 0


@store_app.command()
def verify(
    store: StoreFolder = STORE,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take broken results out, so that they are made again.")
    ] = False,
) -> int:
    """Read every file of the store and name those that are not as they were written."""
    from bitleak.engine.store import Store

    opened = Store(store, create=False)
    problems = opened.verify()
    for problem in problems:
        print(problem)
    if remove:
        for place in sorted({problem.place for problem in problems}):
            opened.remove(place)
    count = sum(count for count, _ in opened.sizes().values())
    print(
        f"{count} results checked, {len(problems)} problems"
        + (", removed" if remove and problems else "")
    )
    return 1 if problems and not remove else 0


@store_app.command()
def remove(
    keys: Annotated[
        list[str], typer.Argument(metavar="KEY...", help="Keys, or their first digits (8 or more).")
    ],
    store: StoreFolder = STORE,
) -> int:
    """Remove single results, so that they are made again; messages show their keys."""
    from bitleak.engine.store import Store

    # All keys are looked up before the first result is removed.
    opened = Store(store, create=False)
    places = {opened.place_of(key) for key in keys}
    for place in sorted(places):
        opened.remove(place)
    print(f"{len(places)} results removed")
    return 0


@store_app.command("export")
def export_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A tar file; with --max-bytes, the name of its parts."),
    ],
    store: StoreFolder = STORE,
    audit: Annotated[
        list[Path] | None,
        typer.Option(
            "--audit", metavar="CONFIG", help="Only what this audit needs; may be repeated."
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Only results of this stage; may be repeated."),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            "--max-bytes", metavar="SIZE", help="Several files of at most this size, such as 16M."
        ),
    ] = None,
    data: Data = None,
    set_: Settings = None,
) -> int:
    """Write finished results to a file, for another machine's store."""
    from rich.filesize import decimal

    from bitleak.cli.options import bytes_of
    from bitleak.cli.terminal import StageBars
    from bitleak.core.errors import ConfigError
    from bitleak.engine.store import Store
    from bitleak.engine.transfer import export_results

    try:
        limit = None if max_bytes is None else bytes_of(max_bytes, "--max-bytes")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    # Results of the named audits and stages, or all.
    opened = Store(store, create=False)
    keys = _planned(audit, data, set_) if audit else None
    chosen = _stages(stage or [])
    with StageBars() as steps:
        paths = export_results(
            opened, file, keys=keys, stages=chosen, part_bytes=limit, on_step=steps.show
        )
    for path in paths:
        print(f"{path} ({decimal(path.stat().st_size)})")
    if keys is not None:
        present = {entry.key for entry in opened.ls()}
        print(f"{len(keys & present)} of the {len(keys)} tasks of the audit are done here")
    return 0


@store_app.command("import")
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="What `store export` wrote.")
    ],
    store: StoreFolder = STORE,
) -> int:
    """Take results from files that were exported elsewhere; every byte is checked first."""
    from rich.filesize import decimal

    from bitleak.cli.terminal import StageBars
    from bitleak.engine.store import Store
    from bitleak.engine.transfer import import_results

    opened = Store(store)
    opened.sweep()
    with StageBars() as steps:
        taken = import_results(opened, files, steps.show)
    print(f"{taken.new} results taken ({decimal(taken.size)}), {taken.known} were there already")
    return 0


@store_app.command()
def gc(
    keep: Annotated[
        list[Path] | None, typer.Argument(metavar="[CONFIG]...", help="Audits to keep.")
    ] = None,
    store: StoreFolder = STORE,
    data: Data = None,
    set_: Settings = None,
    remove_all: Annotated[bool, typer.Option("--all", help="Keep nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> int:
    """Remove results that the named audits do not need, and leftovers of killed runs."""
    from bitleak.core.errors import ConfigError
    from bitleak.engine.store import Store

    if not keep and not remove_all:
        raise ConfigError(
            "store gc: name the configs of the audits to keep, or give --all to remove everything"
        )
    opened = Store(store, create=False)
    removed = opened.gc(_planned(keep or [], data, set_), dry_run=dry_run)
    if not dry_run:
        opened.sweep()
    print(f"{len(removed)} folders {'would be ' if dry_run else ''}removed")
    return 0


def _planned(configs: list[Path], data: Path | None, settings: list[str] | None) -> set[str]:
    """Return the keys of all tasks of these audits."""
    from bitleak.audit import prepare
    from bitleak.audit.preparation import dataset_of
    from bitleak.cli.terminal import print_download
    from bitleak.config import override, read_config, validate

    keys: set[str] = set()
    for config in configs:
        checked = validate(override(read_config(config), settings or []))
        print_download(dataset_of(checked), data)
        keys |= {task.key for task in prepare(checked, data=data).plan.tasks}
    return keys


def _stages(names: list[str]) -> list[str]:
    """Check that names are stages, and return them."""
    from bitleak.core.checks import unknown_name
    from bitleak.core.errors import ConfigError
    from bitleak.registry import STEPS

    for name in names:
        if name not in STEPS:
            raise ConfigError(f"--stage: {unknown_name('stage', name, STEPS)}")
    return names
