"""Shards of a split: names of Parquet files that show that one is missing, or there twice."""

import re
from collections.abc import Sequence
from pathlib import Path

from bitleak.core.errors import DataError

SHARD = re.compile(r"-(\d+)-of-(\d+)(-[0-9a-f]+)?$")
"""End of the name of a shard, without its suffix: its number, their number, and perhaps a digest."""


def split_of(file: Path) -> str:
    """Return the split of a Parquet file by its name.

    Example:
        >>> split_of(Path("train-00000-of-00002-9b1f.parquet")), split_of(Path("train.parquet"))
        ('train', 'train')
    """
    return SHARD.sub("", file.stem)


def check_shards(files: Sequence[Path]) -> None:
    """Refuse the files of a split if their names show that they are not all of it, each once.

    An interrupted download leaves shards out, and a second upload to the Hub, with other names,
    leaves every image twice.

    Args:
        files: Parquet files of one split.

    Raises:
        DataError: A number is missing, or there are two sets of shards.

    Example:
        >>> check_shards([Path("train-00000-of-00002.parquet")])
        Traceback (most recent call last):
        ...
        bitleak.core.errors.DataError: train-00000-of-00002.parquet: 1 of 2 shards is there; missing: 1. ...
    """
    shards = [SHARD.search(file.stem) for file in files]
    if any(shards):
        names = {(shard[1], shard[2]) if shard else None for shard in shards}
        totals = {shard[2] if shard else None for shard in shards}
        if len(totals) > 1 or len(names) < len(files):
            raise DataError(
                f"{files[0].parent}: {files[0].name} and {files[-1].name} belong to two sets of files of one split, so "
                "that images would be there twice; keep only one of them"
            )
        numbers, total = [int(shard[1]) for shard in shards if shard], int(totals.pop() or 0)
    elif all(file.stem.isdigit() for file in files):
        numbers = [int(file.stem) for file in files]  # `train/0000.parquet`, without their number
        total = max(numbers) + 1
    else:
        return
    missing = sorted({*range(total)} - {*numbers})
    if missing:
        listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        verb = "is" if len(numbers) == 1 else "are"
        raise DataError(
            f"{files[0]}: {len(numbers)} of {total} shards {verb} there; missing: {listed}. Complete the download or, "
            "if these alone are meant, rename them to NAME-00000-of-0000N"
        )
