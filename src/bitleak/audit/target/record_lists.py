"""The records that a target was trained on, and those that it was not, as a user names them.

| form | meaning |
|---|---|
| integers, or an `.npy` or `.txt` file of them | record numbers, in the order of the data set, from 0 |
| truth values, or an `.npy` file of them | one per record, True for a member |
| text | names of image files, with or without their folder and suffix |
| a folder | the images in it, by their names |
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from bitleak.core.errors import ConfigError, DataError
from bitleak.core.npy import read_array
from bitleak.core.seeds import seed_for
from bitleak.data.folders import SUFFIXES

MOST_POPULATION = 2000
"""Largest number of non-members that are set aside for the adversary."""

POPULATION_SHARE = 0.25
"""Largest share of the non-members that is set aside for the adversary."""


@dataclass(frozen=True)
class Known:
    """The records whose membership is known.

    Attributes:
        members: Records that the target was trained on, ascending.
        others: Records that it was not trained on, ascending.
    """

    members: Int64[np.ndarray, "members"]
    others: Int64[np.ndarray, "others"]


@dataclass(frozen=True)
class Parts:
    """The parts that each record plays in an audit of one target; disjoint, each ascending.

    Attributes:
        members: Evaluated members.
        evaluated: Evaluated non-members.
        population: Non-members from which the adversary learns the distribution.
        training: Non-members that references are trained on; none in tier 0.
    """

    members: Int64[np.ndarray, "members"]
    evaluated: Int64[np.ndarray, "evaluated"]
    population: Int64[np.ndarray, "population"]
    training: Int64[np.ndarray, "training"]

    @property
    def pool(self) -> Int64[np.ndarray, "records"]:
        """All evaluated records, ascending."""
        return np.sort(np.concatenate([self.members, self.evaluated]))


def known_records(
    members: Any,
    others: Any,
    *,
    records: int,
    names: Sequence[str] | None = None,
    where: str = "",
) -> Known:
    """Return members and non-members.

    Args:
        members: In one of the forms of this module.
        others: Non-members, in these forms; None takes all records that are no members.
        records: Number of records of the data set.
        names: Name of every record; None if records have none.
        where: Put before the names of the two lists in messages, such as `target.`.

    Raises:
        ConfigError: A list is of another length, names a record that does not exist, or twice, is
            empty, or has records in common with the other one.
    """
    inside = _numbers(members, f"{where}members", records, names)
    if others is None:
        outside = np.setdiff1d(np.arange(records), inside)
    else:
        outside = _numbers(others, f"{where}others", records, names)
    # A record on both lists would count as found and as falsely accused.
    both = np.intersect1d(inside, outside)
    if len(both):
        raise ConfigError(
            f"{where}others: {len(both):,} of {len(outside):,} records are members too "
            f"({_listed(both)}); a record is either: take them out of one of the lists"
        )
    for name, numbers in (("members", inside), ("others", outside)):
        if len(numbers) < 2:
            raise ConfigError(
                f"{where}{name}: expected at least 2 records, got {len(numbers)} of {records:,}; without "
                "members and non-members nothing can be compared"
            )
    return Known(inside, outside)


def parted(known: Known, seed: int, *, training: float = 0.0) -> Parts:
    """Split the known non-members by seed; all members are evaluated.

    Args:
        known: Members and non-members.
        seed: Seed of the draw.
        training: Share of the non-members that references are trained on.
    """
    order = np.random.default_rng(seed_for(seed, "target parts")).permutation(known.others)
    trained = round(training * len(order))
    population = min(MOST_POPULATION, int(POPULATION_SHARE * (len(order) - trained)))
    first, second, third = np.split(order, [trained, trained + population])
    return Parts(known.members, np.sort(third), np.sort(second), np.sort(first))


def _numbers(
    raw: Any, where: str, records: int, names: Sequence[str] | None
) -> Int64[np.ndarray, "numbers"]:
    values = _as_array(_from_path(Path(raw), where) if isinstance(raw, str | Path) else raw, where)
    if values.dtype.kind == "U":
        return _named(values.tolist(), where, names)
    if values.dtype.kind == "b":
        if len(values) != records:
            raise ConfigError(
                f"{where}: truth values must be one per record, expected {records:,}, got "
                f"{len(values):,}; are they of another data set, or of one part of it?"
            )
        return np.flatnonzero(values).astype(np.int64)
    if values.dtype.kind not in "iu":
        hint = "; array.astype(int) has the numbers" if values.dtype.kind == "f" else ""
        raise ConfigError(
            f"{where}: expected record numbers, truth values or names, got {values.dtype}{hint}"
        )
    return _checked(values.astype(np.int64), where, records)


def _as_array(raw: Any, where: str) -> np.ndarray:
    """Return a list, an array, a series, a set or another iterable as an array of one axis.

    Raises:
        ConfigError: It is none of these, or of mixed types.
    """
    if hasattr(raw, "detach"):
        raw = raw.detach().cpu()
    if hasattr(raw, "numpy"):
        raw = raw.numpy()
    is_plain = hasattr(raw, "__array__") or isinstance(raw, Sequence)
    if not is_plain and isinstance(raw, Iterable):
        raw = list(raw)
    try:
        values = np.asarray(raw)
    except ValueError:
        raise ConfigError(f"{where}: expected a list, got lists of different lengths") from None
    if values.ndim == 0:
        raise ConfigError(
            f"{where}: expected record numbers, a truth value per record, or names, got {raw!r}"
        )
    if values.ndim != 1:
        hint = "; array.ravel() has one axis" if values.size == len(values) else ""
        raise ConfigError(f"{where}: expected a list, got an array of shape {values.shape}{hint}")
    if not len(values) and values.dtype.kind != "b":
        return np.empty(0, np.int64)

    # Objects: truth values that may be missing, paths, or a mixture.
    if values.dtype.kind == "O":
        items = values.tolist()
        for kinds, target in (((bool, np.bool_), bool), ((int, np.integer), np.int64)):
            if all(isinstance(item, kinds) for item in items):
                return np.array(items, target)
        if not all(isinstance(item, str | Path) for item in items):
            types = sorted({type(item).__name__ for item in items})
            raise ConfigError(
                f"{where}: expected record numbers, truth values or names, got a list of {' and '.join(types)}"
            )
        return np.array([str(item) for item in items])
    return values


def _checked(values: Int64[np.ndarray, "numbers"], where: str, records: int) -> np.ndarray:
    """Return record numbers, ascending; refuse those that do not exist, and repetitions."""
    if len(values) == records and records > 2 and set(np.unique(values)) == {0, 1}:
        raise ConfigError(
            f"{where}: {records:,} zeros and ones, one per record, are truth values stored as "
            "integers; store them as truth values (array.astype(bool)), else they are read as record numbers"
        )
    outside = values[(values < 0) | (values >= records)]
    if len(outside):
        raise ConfigError(
            f"{where}: {len(outside):,} of {len(values):,} record numbers are not from 0 to "
            f"{records - 1:,} ({_listed(outside)}); are they of another data set?"
        )
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) < len(values):
        raise ConfigError(
            f"{where}: {int((counts > 1).sum()):,} records are there more than once "
            f"({_listed(unique[counts > 1])}); give each once"
        )
    return unique


def _from_path(path: Path, where: str) -> Any:
    """Return the content of an `.npy` or text file, or the names of the images in a folder."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES]
        if not files:
            raise ConfigError(f"{where}: {path}: no images in this folder")
        return sorted(str(file.relative_to(path)) for file in files)
    if not path.is_file():
        raise ConfigError(f"{where}: {path}: no such file or folder")
    if path.suffix == ".npy":
        try:
            with path.open("rb") as file:
                return read_array(file, str(path), path.stat().st_size)
        except (DataError, ValueError) as error:
            raise ConfigError(f"{where}: {error}") from None
    if path.suffix == ".txt":
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: {path}: cannot be read as UTF-8 text ({error})") from None
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        are_numbers = all(line.isascii() and line.isdigit() for line in lines)
        return list(map(int, lines)) if are_numbers else lines
    raise ConfigError(f"{where}: {path}: expected an .npy file, a .txt file or a folder")


def _named(wanted: list[str], where: str, names: Sequence[str] | None) -> np.ndarray:
    """Return the records with these names."""
    if names is None:
        raise ConfigError(
            f"{where}: records of this data set have no names; give their numbers, or truth values"
        )
    # A record answers to its path, and to every end of it, with and without the suffix.
    places: dict[str, list[int]] = defaultdict(list)
    for record, name in enumerate(names):
        parts = Path(name).parts
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            for spelling in {end, str(Path(end).with_suffix(""))}:
                places[spelling].append(record)
    unknown = [name for name in wanted if Path(name).as_posix() not in places]
    if unknown:
        raise ConfigError(
            f"{where}: {len(unknown):,} of {len(wanted):,} names are not in the data set, such as "
            f"{unknown[0]!r}; its names are such as {names[0]!r}"
        )
    numbers: list[int] = []
    for name in wanted:
        matches = places[Path(name).as_posix()]
        if len(matches) > 1:
            raise ConfigError(
                f"{where}: {name!r} names {len(matches)} records, such as {names[matches[0]]!r} and "
                f"{names[matches[1]]!r}; add the folder to the name"
            )
        numbers += matches
    return _checked(np.array(numbers, np.int64), where, len(names))


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:5].tolist())) + (", ..." if len(numbers) > 5 else "")
