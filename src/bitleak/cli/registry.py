"""`bitleak list`: what the registry knows."""

from rich.console import Console
from rich.table import Table


def list_names() -> int:
    """List the data sets, models, quantizers, attacks and executors that a config can name."""
    from bitleak import registry
    from bitleak.core.errors import ConfigError

    table = Table(box=None, pad_edge=False)
    table.add_column("kind")
    table.add_column("name")
    table.add_column("what it is")
    for kind in ("DATASETS", "MODELS", "QUANTIZERS", "ATTACKS", "EXECUTORS"):
        names = getattr(registry, kind)
        for name in names:
            try:
                summary = (registry.find(names, name, kind=kind).__doc__ or "").strip().split("\n")[0]
            except ConfigError as error:  # an extra that is not installed; says which
                summary = str(error)
            table.add_row(kind.lower(), name, summary)
    Console().print(table)
    return 0
