"""`bitleak audit CONFIG` and `bitleak demo`."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from bitleak.cli.options import STORE, Data, Device, Executor, Settings, StoreFolder, Workers

Out = Annotated[
    Path | None, typer.Option("--out", help="Where tables, figures and report.html go; `audits/NAME` unless given.")
]


def audit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see examples/.")],
    out: Out = None,
    store: StoreFolder = STORE,
    data: Data = None,
    executor: Executor = "processes",
    workers: Workers = None,
    device: Device = "auto",
    set_: Settings = None,
) -> int:
    """Train, quantize, attack and report; what the store holds already is not done again."""
    return _run(config, out or Path("audits") / config.stem, store, data, executor, workers, device, set_)


def demo(
    out: Out = None,
    store: StoreFolder = STORE,
    data: Data = None,
    executor: Executor = "processes",
    workers: Workers = None,
    device: Device = "auto",
    set_: Settings = None,
) -> int:
    """The whole audit on the digits that come with scikit-learn: a few minutes on two cores."""
    with resources.as_file(resources.files("bitleak") / "demo.yaml") as config:
        return _run(config, out or Path("audits") / "demo", store, data, executor, workers, device, set_)


def _run(
    config: Path,
    out: Path,
    store: str,
    data: Path | None,
    executor: str,
    workers: int | None,
    device: str,
    settings: list[str] | None,
) -> int:
    from bitleak import audit as library
    from bitleak.cli.progress import Watch, print_forecast
    from bitleak.cli.results import print_results
    from bitleak.config import override, read, validate
    from bitleak.core.checks import unknown_name
    from bitleak.core.errors import ConfigError
    from bitleak.engine.store import Store
    from bitleak.registry import EXECUTORS

    if executor not in EXECUTORS:
        raise ConfigError(f"--executor: {unknown_name('executor', executor, EXECUTORS)}")
    prepared = library.prepare(validate(override(read(config), settings or [])), data=data, device=device)
    library.check_out(out)
    opened = Store(store)
    print_forecast(prepared, library.forecast(prepared, opened, workers=library.worker_count(prepared, workers)))
    with Watch() as watch:
        report = library.audit(
            prepared, out=out, store=opened, executor=executor, workers=workers, on_event=watch.on_event
        )
    if report.failed:
        return _failed(report)
    print_results(out)
    return 0


def _failed(report: Any) -> int:
    from bitleak.cli.progress import print_failures

    print_failures(report)
    return 2 if all(outcome.kind == "input" for outcome in report.failed) else 1
