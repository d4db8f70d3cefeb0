"""The request of `bitleak ask`: which networks are evaluated on which records, checked before work.

| option | values |
|---|---|
| records, population | `train` (all that the source does not hold out), `held_out`, `all`, `none`, a range `0:500`, or an `.npy` file of record numbers |
| members, once | bool `[models records]`, in the order of the weights, or of one network as below |
| members, per network | bool `[records]`, or integers: numbers of its members |

Numbers of records, and bool arrays of the length of the data set, are those of the data set; bool
arrays of the length of the audited records are in their order.
"""  # noqa: E501

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from bitleak import registry
from bitleak.config import DataConfig, override
from bitleak.config.fields import checked_value
from bitleak.core.checks import integer_in
from bitleak.core.errors import ConfigError, DataError, ModelError
from bitleak.core.npy import read_array
from bitleak.core.types import Images
from bitleak.data import check_queries
from bitleak.registry import CHECKPOINT_SUFFIXES
from bitleak.runtimes.runtime import runtime_of
from bitleak.single_network.option_texts import model_from_text
from bitleak.single_network.option_values import (
    collected,
    dataset_of_text,
    standardisation_of_texts,
)

WEIGHTS_FILES = tuple(
    f"*{suffix}" for suffix in (".safetensors", *CHECKPOINT_SUFFIXES, *registry.RUNTIME_OF_SUFFIX)
)
"""Files of a folder that are taken for weights."""


@dataclass(frozen=True)
class AnswerRequest:
    """A request, as texts of the command line.

    Attributes:
        weights: Files of weights, results of a store, or folders of files.
        data: Text of a data set.
        model: Text of a model; None if the weights name it.
        members: Files of memberships: one for all networks, or one per network; may be empty.
        records: Records that are audited.
        population: Records outside of all training sets; None is the source's held-out part where
            `records` is `train`, else none.
        queries: Fixed augmentations with commas between them.
        mean: Mean per channel; None for the weights' or, if they have none, the data's.
        std: Deviation per channel.
        batch: Records per forward pass.
        device: `cpu`, `cuda` or `cuda:N`.
        seed: Seed for the choice of records where the data has a limit.
        runtime: `OPTION=VALUE` for the runtime of files; the values are read as YAML.
    """

    weights: tuple[Path, ...]
    data: str
    model: str | None = None
    members: tuple[Path, ...] = ()
    records: str = "train"
    population: str | None = None
    queries: str = "identity"
    mean: str | None = None
    std: str | None = None
    batch: int = 64
    device: str = "cpu"
    seed: int = 0
    runtime: Sequence[str] = ()


@dataclass(frozen=True)
class CheckedAnswerRequest:
    """A request, as checked values; no data was read.

    Attributes:
        request: The request.
        files: A file, or a store's result, per network.
        model: Name and options; None if the weights name it.
        dataset: An instance of an entry of the registry's `DATASETS`.
        part: Limits on its number of records.
        standardisation: Mean and deviation per channel, if they were given.
        queries: Names of the augmentations, `identity` first.
        runtime: Options of the runtime of files.
    """

    request: AnswerRequest
    files: tuple[Path, ...]
    model: tuple[str, Mapping[str, Any]] | None
    dataset: Any
    part: DataConfig
    standardisation: tuple[tuple[float, ...], tuple[float, ...]] | None
    queries: tuple[str, ...]
    runtime: Mapping[str, Any]


@dataclass(frozen=True)
class AskedRecords:
    """Records on which the networks are evaluated.

    Attributes:
        pool: Numbers of the audited records, ascending.
        population: Numbers of records outside of all training sets, ascending.
        member: True if the network was trained on the audited record; None if it is not known.
    """

    pool: Int64[np.ndarray, "records"]
    population: Int64[np.ndarray, "population"]
    member: Bool[np.ndarray, "models records"] | None


def check_answer_request(request: AnswerRequest) -> CheckedAnswerRequest:
    """Check a request as far as it goes without reading weights and data.

    Raises:
        ConfigError: With every mistake, one per line, each with its option.
    """
    # Texts as values; every mistake is collected.
    errors: list[str] = []
    files = collected(errors, lambda: weights_files(request.weights))
    model = collected(
        errors, lambda: None if request.model is None else model_from_text(request.model)
    )
    dataset, part = dataset_of_text(request.data, errors)
    standardisation = collected(
        errors, lambda: standardisation_of_texts(request.mean, request.std, dataset)
    )
    checked_value(integer_in, request.batch, "--batch", errors, 1)
    checked_value(integer_in, request.seed, "--seed", errors, 0, 2**62)
    runtime = collected(errors, lambda: _runtime_options(request.runtime, files or ()))
    queries = tuple(name.strip() for name in re.split(r",(?=[a-z ])", request.queries))
    try:
        check_queries(queries)
    except ValueError as error:
        errors.append(f"--queries: {error}")
    if getattr(dataset, "is_table", False) and queries != ("identity",):
        errors.append(f"--queries: {request.queries} is for images, and the data is a table")
    for file in request.members:
        if not file.is_file():
            errors.append(f"--members {file}: no such file; give an .npy file")
    if files and len(request.members) not in (0, 1, len(files)):
        errors.append(
            f"--members: give one file for all {len(files)} networks, or one for each of them in the order "
            f"of --weights, got {len(request.members)}"
        )
    if errors:
        raise ConfigError("\n".join(errors))
    return CheckedAnswerRequest(
        request, files, model, dataset, part, standardisation, queries, runtime
    )


def _runtime_options(texts: Sequence[str], files: Sequence[Path]) -> Mapping[str, Any]:
    """Return the options of the files' runtimes.

    Raises:
        ConfigError: A runtime does not have one, or no file has a runtime.
    """
    try:
        options = override({}, texts)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set", "--runtime")) from None
    names = {registry.RUNTIME_OF_SUFFIX.get(file.suffix.lower()) for file in files} - {None}
    if options and files and not names:
        known = ", ".join(registry.RUNTIME_OF_SUFFIX)
        raise ConfigError(f"--runtime: is for files of a runtime ({known}), of which there is none")
    for name in sorted(filter(None, names)):
        try:
            runtime_of(name, options)
        except ModelError as error:
            raise ConfigError(f"--runtime: {error}") from None
    return options


_POINTER = b"version https://git-lfs"
"""First bytes of a file that stands for one in Git's large file storage."""

_OTHER_FRAMEWORKS = (".h5", ".keras", ".pb", ".mlmodel", ".engine", ".plan", ".pte", ".gguf")
"""Suffixes of files of other frameworks and runtimes."""


def weights_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return a file or a store's result per network; folders give their files by the numbers in their names.

    Raises:
        ConfigError: There is none, a path does not exist, or a file is named twice.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / "manifest.json").is_file():
            inside: list[Path] = []
            for pattern in WEIGHTS_FILES:
                inside += path.glob(pattern)
            if not inside:
                raise ConfigError(
                    f"--weights {path}: neither a store's result nor a folder of {', '.join(WEIGHTS_FILES)}"
                )
            # The constants of an OpenVINO graph are no network of their own.
            files += sorted((file for file in inside if not _is_constants(file)), key=_by_number)
        elif _is_constants(path):
            raise ConfigError(
                f"--weights {path}: holds the constants of {path.stem}.xml; give that file"
            )
        elif path.exists():
            files.append(path)
        else:
            raise ConfigError(f"--weights {path}: no such file or folder")
    for file in files:
        if files.count(file) > 1:
            raise ConfigError(
                f"--weights {file}: is there twice; a model would be its own reference"
            )
        if file.is_file():
            _check_kind(file)
    return tuple(files)


def _check_kind(file: Path) -> None:
    """Refuse a file that no reader can read, by its first bytes and its suffix.

    Raises:
        ConfigError: It is a pointer of Git LFS, or its suffix is of another framework.
    """
    with file.open("rb") as stream:
        head = stream.read(len(_POINTER))
    if head == _POINTER:
        raise ConfigError(
            f"--weights {file}: a pointer of Git LFS and not the file itself; run git lfs pull"
        )
    if file.suffix.lower() in _OTHER_FRAMEWORKS:
        known = ", ".join([".safetensors", *CHECKPOINT_SUFFIXES, *registry.RUNTIME_OF_SUFFIX])
        raise ConfigError(
            f"--weights {file}: files of this kind are not read; expected one of {known}"
        )


def asked_records(checked: CheckedAnswerRequest, images: Images) -> AskedRecords:
    """Return the records and the membership that the options name.

    Raises:
        ConfigError, DataError: A file cannot be read, a number is out of range, a record is in two
            parts, or a member is in the population.
    """
    request = checked.request
    pool = _chosen(request.records, "--records", images)
    usual = "held_out" if request.records == "train" else "none"
    population = _chosen(request.population or usual, "--population", images)
    if not len(pool):
        raise ConfigError(f"--records {request.records}: no record of the data set is among these")
    both = np.intersect1d(pool, population)
    if len(both):
        raise ConfigError(
            f"--population: {len(both)} records are among --records too, such as {both[0]}; the population is "
            "outside of all training sets"
        )
    member = _membership(checked, pool, population, len(images.labels))
    return AskedRecords(pool, population, member)


def _chosen(text: str, option: str, images: Images) -> Int64[np.ndarray, "chosen"]:
    records = np.arange(len(images.labels))
    words = {
        "train": ~images.held_out,
        "held_out": images.held_out,
        "all": np.ones(len(records), bool),
        "none": np.zeros(len(records), bool),
    }
    if text in words:
        return records[words[text]]
    bounds = re.fullmatch(r"(\d+):(\d+)", text)
    if bounds:
        start, stop = int(bounds[1]), int(bounds[2])
        if not start < stop <= len(records):
            raise ConfigError(
                f"{option}: expected a range within 0:{len(records)}, the records of the data set, got {text}"
            )
        return records[start:stop]
    if not text.endswith(".npy"):
        raise ConfigError(
            f"{option}: expected {', '.join(words)}, a range such as 0:500, or an .npy file of record numbers, "
            f"got {text!r}"
        )
    return _numbers(_loaded(Path(text), option), option, len(records))


def _membership(
    checked: CheckedAnswerRequest,
    pool: np.ndarray,
    population: np.ndarray,
    records: int,
) -> Bool[np.ndarray, "models records"] | None:
    paths, models = checked.request.members, len(checked.files)
    if not paths:
        return None
    rows: list[np.ndarray] = []
    for path in paths:
        where = f"--members {path}"
        array = _loaded(path, where)
        if array.dtype.kind in "iu" and array.size > 2 and set(np.unique(array)) == {0, 1}:
            raise ConfigError(
                f"{where}: zeros and ones of {array.dtype} are truth values stored as integers; store them as truth "
                "values (array.astype(bool)), else they are read as record numbers"
            )
        if array.ndim == 2 and array.dtype == bool:
            if len(paths) > 1 or len(array) != models:
                raise ConfigError(
                    f"{where}: expected a row for each of the {models} networks, got {array.shape}"
                )
            rows += list(array)
        else:
            rows.append(array)
    if len(rows) != models:
        raise ConfigError(
            f"--members: {models} networks need {models} rows of members; one file of bool [models records], "
            f"or a file per network, got {len(rows)}"
        )
    # Everything as a mark per record of the data set, and then of the audited ones.
    member = np.zeros((models, len(pool)), bool)
    for row, array in enumerate(rows):
        where = f"--members, network {row}"
        if array.dtype == bool and array.shape == (len(pool),):
            member[row] = array
            continue
        if array.dtype == bool:
            if array.shape != (records,):
                raise ConfigError(
                    f"{where}: expected a mark for each of the {len(pool)} audited records or of the {records} "
                    f"records of the data set, got {array.shape}"
                )
            marks = array
        else:
            marks = np.zeros(records, bool)
            marks[_numbers(array, where, records)] = True
        inside = population[marks[population]]
        if len(inside):
            raise ConfigError(
                f"{where}: {len(inside)} members are in --population, such as record {inside[0]}; the population "
                "is outside of all training sets"
            )
        member[row] = marks[pool]
    empty = np.flatnonzero(~member.any(axis=1))
    if len(empty):
        raise ConfigError(
            f"--members, network {empty[0]}: none of the {len(pool)} audited records is a member; do the numbers "
            "count the records of this data set, from 0?"
        )
    return member


def _numbers(array: np.ndarray, where: str, records: int) -> Int64[np.ndarray, "numbers"]:
    """Return record numbers, ascending and each once."""
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConfigError(
            f"{where}: expected integers [records], the numbers of records, or bool, got {array.dtype} {array.shape}"
        )
    wrong = array[(array < 0) | (array >= records)]
    if len(wrong):
        raise ConfigError(
            f"{where}: record numbers must be from 0 to {records - 1}, got {wrong[0]}"
        )
    numbers = np.unique(array).astype(np.int64)
    if len(numbers) < len(array):
        raise ConfigError(f"{where}: {len(array) - len(numbers)} records are named twice")
    return numbers


def _loaded(path: Path, where: str) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{where}: {path}: no such file")
    with path.open("rb") as stream:
        return read_array(stream, f"{where}: {path}", path.stat().st_size)


def _is_constants(path: Path) -> bool:
    """Return whether a file belongs to the OpenVINO graph next to it."""
    return path.suffix == ".bin" and path.with_suffix(".xml").is_file()


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return an order in which 2 comes before 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]
