"""`bitleak plan CONFIG`: what an audit would do, without doing it."""

from pathlib import Path
from typing import Annotated

import typer

from bitleak.cli.options import STORE, Data, Device, Settings, StoreFolder, Workers


def show_plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see examples/.")],
    store: StoreFolder = STORE,
    data: Data = None,
    workers: Workers = None,
    device: Device = "auto",
    set_: Settings = None,
) -> int:
    """Show the tasks to do and cached, the expected hours, disk and memory; do nothing."""
    from bitleak import audit as library
    from bitleak.audit.preparation import dataset_of
    from bitleak.cli.audit_progress import print_download, print_forecast, print_notes
    from bitleak.config import override, read_config, validate
    from bitleak.engine.store import Store, is_url

    checked = validate(override(read_config(config), set_ or []))
    print_download(dataset_of(checked), data)
    prepared = library.prepare(checked, data=data, device=device, here=False)
    opened = Store(store, create=False) if is_url(store) or Path(store).exists() else None
    print_forecast(prepared, library.forecast(prepared, opened, workers=library.worker_count(prepared, workers)))
    print_notes(prepared, opened)
    return 0
