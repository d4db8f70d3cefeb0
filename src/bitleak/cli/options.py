"""Options that several verbs share, and amounts as people write them: `8G` of memory, `9m` of time."""

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from bitleak.core.errors import ConfigError

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
ModelRows = Annotated[
    str | None,
    typer.Option(
        "--models",
        metavar="ROWS",
        help="Only train, quantize and ask these models, such as 0-3,7; no report. For machines that share no store.",
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
    typer.Option(
        "--mean",
        help="One number or one per channel, 0 to 1; the weights' or the data's unless given.",
    ),
]
Std = Annotated[str | None, typer.Option("--std", help="Likewise; goes with --mean.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one field by its dotted name."),
]
STORE = "bitleak-store"

_BYTES = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 1 << 10,
    "MI": 1 << 20,
    "GI": 1 << 30,
}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def bytes_of(text: str, name: str = "size") -> int:
    """Return the bytes of `8G`, `1.5GiB`, `512 MB` or `1000000`; K, M, G and T are powers of 1000.

    Raises:
        ValueError: It is no size, or nothing.

    Example:
        >>> bytes_of("16M"), bytes_of("1.5GiB")
        (16000000, 1610612736)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?|[KMG]I)B?\s*", text.upper())
    count = int(float(match[1]) * _BYTES[match[2]]) if match else 0
    if count < 1:
        raise ValueError(f"{name} must be a size such as 8G, 512M or 1.5GiB, got {text!r}")
    return count


def seconds_of(text: str, name: str = "time") -> float:
    """Return the seconds that `90s`, `9m`, `1.5h`, `1h30m` or `540` stand for.

    Raises:
        ValueError: It is no length of time, or none.

    Example:
        >>> seconds_of("9m"), seconds_of("1h30m")
        (540.0, 5400.0)
    """
    part = r"(\d+(?:\.\d+)?)\s*([smhd]?)\s*"
    if not re.fullmatch(rf"\s*(?:{part})+", text):
        raise ValueError(f"{name} must be a time such as 9m, 90s or 1h30m, got {text!r}")
    seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in re.findall(part, text))
    if not 0 < seconds < math.inf:
        raise ValueError(f"{name} must be a time such as 9m, 90s or 1h30m, got {text!r}")
    return seconds


def rows_of(text: str) -> tuple[int, ...]:
    """Return the models that `0-3,7` stands for, in ascending order.

    Raises:
        ConfigError: It is no such list, or a range ends before it starts.

    Example:
        >>> rows_of("0-3,7")
        (0, 1, 2, 3, 7)
    """
    rows: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"--models must be numbers and ranges such as 0-3,7, got {text!r}")
        rows.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(rows))
