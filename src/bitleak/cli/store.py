"""`bitleak store ls|verify|gc`."""

from pathlib import Path
from typing import Annotated

import typer

from bitleak.cli.options import STORE, Data, Settings, StoreFolder

app = typer.Typer(help="Look at, check and clean the store.", no_args_is_help=True)


@app.command()
def ls(store: StoreFolder = STORE) -> int:
    """List what the store holds, by stage, with sizes."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from bitleak.engine.store import Store

    table = Table("stage", "results", "size", box=None, pad_edge=False)
    sizes = Store(store, create=False).sizes()
    for stage, (count, size) in sizes.items():
        table.add_row(stage, str(count), decimal(size))
    table.add_row("all", str(sum(c for c, _ in sizes.values())), decimal(sum(s for _, s in sizes.values())))
    Console().print(table)
    return 0


@app.command()
def verify(
    store: StoreFolder = STORE,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take broken results out, so that they are made again.")
    ] = False,
) -> int:
    """Read every file of the store and name what is not as it was written."""
    from bitleak.engine.store import Store

    opened = Store(store, create=False)
    problems = opened.verify()
    for problem in problems:
        print(problem)
    if remove:
        for place in sorted({problem.place for problem in problems}):
            opened.remove(place)
    count = sum(count for count, _ in opened.sizes().values())
    print(f"{count} results checked, {len(problems)} problems" + (", removed" if remove and problems else ""))
    return 1 if problems and not remove else 0


@app.command()
def gc(
    keep: Annotated[list[Path] | None, typer.Argument(metavar="[CONFIG]...", help="Audits to keep.")] = None,
    store: StoreFolder = STORE,
    data: Data = None,
    set_: Settings = None,
    everything: Annotated[bool, typer.Option("--all", help="Keep nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> int:
    """Remove everything that the named audits do not need, and what killed runs left behind."""
    from bitleak.audit import prepare
    from bitleak.config import override, read, validate
    from bitleak.core.errors import ConfigError
    from bitleak.engine.store import Store

    if not keep and not everything:
        raise ConfigError("store gc: name the configs of the audits to keep, or give --all to remove everything")
    opened = Store(store, create=False)
    plans = [prepare(validate(override(read(config), set_ or [])), data=data).plan for config in keep or []]
    removed = opened.gc({task.key for plan in plans for task in plan.tasks}, dry_run=dry_run)
    print(f"{len(removed)} folders {'would be ' if dry_run else ''}removed")
    return 0
