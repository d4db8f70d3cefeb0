"""`bitleak list`: what the registry knows."""

from rich.console import Console
from rich.table import Table


def list_names() -> int:
    """List the data sets, models, quantizers, attacks and executors that a config can name."""
    from bitleak import registry

    table = Table(box=None, pad_edge=False)
    table.add_column("kind")
    table.add_column("name")
    table.add_column("what it is")
    for kind in ("DATASETS", "MODELS", "QUANTIZERS", "ATTACKS", "EXECUTORS"):
        names = getattr(registry, kind)
        for name in names:
            summary = (registry.find(names, name, kind=kind).__doc__ or "").strip().split("\n")[0]
            table.add_row(kind.lower(), name, summary)
    Console().print(table)
    return 0
