"""Answers as NumPy arrays: an `.npz` file, or a folder with one `.npy` file per array; never unpickled.

| array | type | shape |
|---|---|---|
| one of `logits`, `probabilities`, `scores` | float16, float32, float64 | `[models records queries classes]`, of scores `[models records queries]`; the query axis may be missing |
| `member` | bool, or 1 and 0 | `[models records]` |
| `labels` | integers from 0 | `[records]`; needed but for scores |
| `population_logits` (`_probabilities`, `_scores`), `population_labels` | the same | records outside every model |
| `clusters` | integers | `[records]`; equal numbers for records that depend on each other, such as copies |
| `models` | integers | `[models]`; the rows' numbers, where they are not 0, 1, 2, ... |

An array of an `.npz` file that is stored as it is (`numpy.savez`) is memory-mapped inside the archive, after one pass
over it for the checksum; a compressed one is unpacked first, into a scratch file where it is large.
"""  # noqa: E501

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from bitleak.answers.model_answers import (
    KINDS,
    AnswerKind,
    Answers,
    checked_clusters,
    checked_labels,
    checked_member,
    floating,
    of_one_model,
)
from bitleak.core.archive import opened_npz
from bitleak.core.checks import unknown_name
from bitleak.core.damage import damage_as
from bitleak.core.errors import DataError
from bitleak.core.npy import LONGEST_HEADER, Header, as_array, read_header
from bitleak.core.spill import Scratch

_NAMES = (
    *KINDS,
    *(f"population_{kind}" for kind in KINDS),
    "labels",
    "population_labels",
    "member",
    "clusters",
    "models",
)

_CHUNK = 1 << 22
_LOCAL_HEADER = 30
"""Bytes of a zip entry's own header before its name, whose length and that of what follows are at its end."""


def read_npz(path: Path, scratch: Scratch) -> Answers:
    """Return the answers of an `.npz` file.

    Raises:
        DataError: It is no archive of plain arrays, or an array is missing, unknown, or of a wrong type or shape.
    """
    with opened_npz(path) as (archive, entries):
        check_names(entries, str(path))
        arrays = {name: _mapped(path, archive, info, scratch) for name, info in entries.items()}
    return assemble(arrays, str(path))


def read_folder(folder: Path) -> Answers:
    """Return the answers of a folder of `.npy` files.

    Raises:
        DataError: As `read_npz`.
    """
    return assemble(
        {file.stem: load_npy(file) for file in sorted(folder.glob("*.npy"))}, str(folder)
    )


def load_npy(file: Path) -> np.ndarray:
    """Return the array of an `.npy` file, memory-mapped.

    Raises:
        DataError: It is no such file, is cut off, or holds a pickle.
    """
    if not file.is_file():
        raise DataError(f"{file}: not an .npy file: not a regular file")
    message, advice = (
        f"{file}: not a readable .npy file, it may be cut off",
        "write it again with numpy.save",
    )
    with damage_as(DataError, message, advice), file.open("rb") as stream:
        header = read_header(stream, str(file), file.stat().st_size)
        return _map(file, header.start, header)


def check_names(names: Iterable[str], source: str) -> None:
    """Refuse arrays of other names than `_NAMES`, before any is read.

    Raises:
        DataError: There is one.
    """
    for name in names:
        if name not in _NAMES:
            raise DataError(f"{source}: {unknown_name('array', name, _NAMES)}")


def assemble(arrays: Mapping[str, np.ndarray], source: str) -> Answers:
    """Return answers from arrays by name, the first axis of the large ones being the models.

    Raises:
        DataError: An array is missing, unknown, or of a wrong type or number of axes.
    """
    check_names(arrays, source)
    kind = _kind(arrays, source)
    pool = _by_model(arrays[kind], kind, f"{source}, {kind}")
    outside = f"population_{kind}"
    # Attacks compare the population with the records, which takes one kind of answers for both.
    strays = [
        name
        for name in arrays
        if name.startswith("population_") and name not in (outside, "population_labels")
    ]
    if strays:
        raise DataError(
            f"{source}: {strays[0]} beside {kind}; the population must be of the same kind: {outside}"
        )
    if "population_labels" in arrays and outside not in arrays:
        raise DataError(f"{source}: population_labels without {outside}")
    return Answers(
        source=source,
        kind=kind,
        names=_model_names(arrays, len(pool), source),
        pool=pool,
        member=checked_member(arrays["member"], source) if "member" in arrays else None,
        labels=checked_labels(arrays["labels"], f"{source}, labels")
        if "labels" in arrays
        else None,
        population=_by_model(arrays[outside], kind, f"{source}, {outside}")
        if outside in arrays
        else (),
        population_labels=checked_labels(
            arrays["population_labels"], f"{source}, population_labels"
        )
        if "population_labels" in arrays
        else None,
        clusters=checked_clusters(arrays["clusters"], source) if "clusters" in arrays else None,
    )


def _kind(arrays: Mapping[str, np.ndarray], source: str) -> AnswerKind:
    found = [kind for kind in KINDS if kind in arrays]
    if len(found) != 1:
        raise DataError(
            f"{source}: expected one of the arrays {', '.join(KINDS)}, got {' and '.join(found) or 'none'} "
            f"among {', '.join(sorted(arrays)) or 'no arrays at all'}"
        )
    return found[0]


def _by_model(array: np.ndarray, kind: AnswerKind, where: str) -> tuple[np.ndarray, ...]:
    floating(array, where)
    axes = 3 if kind == "scores" else 4
    if array.ndim not in (axes - 1, axes) or 0 in array.shape:
        shape = (
            "[models records queries]" if kind == "scores" else "[models records queries classes]"
        )
        raise DataError(
            f"{where}: expected {shape}, or without the query axis, and not empty, got {array.shape}"
        )
    return tuple(of_one_model(one, kind, where) for one in array)


def _model_names(arrays: Mapping[str, np.ndarray], count: int, source: str) -> tuple[str, ...]:
    if "models" not in arrays:
        return tuple(str(row) for row in range(count))
    rows = arrays["models"]
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) != count:
        raise DataError(
            f"{source}: models must be one integer per model, {count} of them, got {rows.dtype} {rows.shape}"
        )
    return tuple(str(row) for row in rows.tolist())


def _mapped(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, scratch: Scratch
) -> np.ndarray:
    """One array of the archive, mapped where it lies or, if it is compressed, unpacked."""
    if info.compress_type != zipfile.ZIP_STORED:
        with archive.open(info) as stream:
            return _unpacked(scratch.unpacked(stream, info.file_size), f"{path}, {info.filename}")
    where = f"{path}, {info.filename}"
    with archive.open(info) as stream:
        header = read_header(stream, where, info.file_size)
        while stream.read(_CHUNK):  # the checksum is compared at the end
            pass
    with path.open("rb") as raw:
        raw.seek(info.header_offset + _LOCAL_HEADER - 4)
        lengths = np.frombuffer(raw.read(4), "<u2")
    start = info.header_offset + _LOCAL_HEADER + int(lengths.sum())
    return _map(path, start + header.start, header)


def _unpacked(content: np.ndarray, where: str) -> np.ndarray:
    """The array of an `.npy` file whose bytes are these."""
    head = io.BytesIO(content[: 2 * LONGEST_HEADER].tobytes())
    header = read_header(head, where, len(content))
    return as_array(content[header.start :], header, where)


def _map(path: Path, offset: int, header: Header) -> np.ndarray:
    if not header.size:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", offset, header.shape, header.order)  # type: ignore[call-overload]
