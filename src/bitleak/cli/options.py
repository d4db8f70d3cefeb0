"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="A local folder or file in the data set's layout, instead of the Hub."
    ),
]
StoreFolder = Annotated[
    str,
    typer.Option(
        "--store",
        help="A folder or URL where finished work is kept; shared by audits that name it.",
    ),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor", help="How tasks run: processes, serial, ray, or package.module:Name."
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; one per core unless given.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="What the processes may use together, such as 8G; no limit if not given.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Such as 9m: start no task that would not end in time, and leave with code 3 if some are left.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", help="The Ray cluster's address, or auto; one is started here unless given."
    ),
]
NumCpus = Annotated[float, typer.Option("--num-cpus", help="CPUs that a Ray task asks for.")]
NumGpus = Annotated[
    float | None,
    typer.Option("--num-gpus", help="GPUs that a Ray task asks for, such as 0.25; 1 if on cuda."),
]
Adversary = Annotated[
    str,
    typer.Option(help="strongest, or an attack and its references, such as rmia-online/matched."),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", help="Per channel, 0 to 1; the weights' or the data's unless given."),
]
Std = Annotated[str | None, typer.Option("--std", help="Per channel; goes with --mean.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one field by its dotted name."),
]
STORE = "bitleak-store"
