"""Answers as NumPy arrays: an `.npz` file, or a folder with one `.npy` file per array; never unpickled.

| array | type | shape |
|---|---|---|
| one of `logits`, `probabilities`, `scores` | float16, float32, float64 | `[models records queries classes]`, of scores `[models records queries]`; the query axis may be missing |
| `member` | bool | `[models records]` |
| `labels` | integers from 0 | `[records]`; needed but for scores |
| `population_logits` (`_probabilities`, `_scores`), `population_labels` | the same | records outside every model |
| `models` | integers | `[models]`; the rows' numbers, where they are not 0, 1, 2, ... |

An array of an `.npz` file that is stored as it is (`numpy.savez`) is memory-mapped inside the archive, after one pass
over it for the checksum; a compressed one is unpacked first, into a scratch file where it is large.
"""  # noqa: E501

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitleak.core.checks import unknown_name
from bitleak.core.errors import DataError
from bitleak.scores.answers import KINDS, Answers, Kind, checked_labels, checked_member, floating, of_one_model
from bitleak.scores.scratch import Scratch

NAMES = (*KINDS, *(f"population_{kind}" for kind in KINDS), "labels", "population_labels", "member", "models")

_CHUNK = 1 << 22
_LONGEST_HEADER = 1 << 16
_LOCAL_HEADER = 30
"""Bytes of a zip entry's own header before its name, whose length and that of what follows are at its end."""


def read_npz(path: Path, scratch: Scratch) -> Answers:
    """The answers of an `.npz` file.

    Raises:
        DataError: It is no archive of plain arrays, or an array is missing, unknown, or of a wrong type or shape.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {_name(info, path): info for info in archive.infolist()}
            if len(entries) != len(archive.infolist()):
                raise DataError(f"{path}: an array occurs twice in the archive")
            return assemble({name: _mapped(path, archive, info, scratch) for name, info in entries.items()}, str(path))
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(
            f"{path}: not a readable .npz file, it may be cut off ({error}); write it again with numpy.savez"
        ) from error


def read_folder(folder: Path) -> Answers:
    """The answers of a folder of `.npy` files.

    Raises:
        DataError: As `read_npz`.
    """
    return assemble({file.stem: load(file) for file in sorted(folder.glob("*.npy"))}, str(folder))


def load(file: Path) -> np.ndarray:
    """The array of an `.npy` file, memory-mapped.

    Raises:
        DataError: It is no such file, is cut off, or holds a pickle.
    """
    try:
        with file.open("rb") as stream:
            shape, fortran, dtype = _header(stream, str(file))
            return _map(file, stream.tell(), shape, fortran=fortran, dtype=dtype)
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(
            f"{file}: not a readable .npy file, it may be cut off ({error}); write it again with numpy.save"
        ) from error


def assemble(arrays: Mapping[str, np.ndarray], source: str) -> Answers:
    """Answers from arrays by name, the first axis of the large ones being the models.

    Raises:
        DataError: An array is missing, unknown, or of a wrong type or number of axes.
    """
    for name in arrays:
        if name not in NAMES:
            raise DataError(f"{source}: {unknown_name('array', name, NAMES)}")
    kind = _kind(arrays, source)
    pool = _by_model(arrays[kind], kind, f"{source}, {kind}")
    outside = f"population_{kind}"
    strays = [name for name in arrays if name.startswith("population_") and name not in (outside, "population_labels")]
    if strays:
        raise DataError(f"{source}: {strays[0]} beside {kind}; the population must be of the same kind: {outside}")
    if "population_labels" in arrays and outside not in arrays:
        raise DataError(f"{source}: population_labels without {outside}")
    return Answers(
        source=source,
        kind=kind,
        names=_model_names(arrays, len(pool), source),
        pool=pool,
        member=checked_member(arrays["member"], source) if "member" in arrays else None,
        labels=checked_labels(arrays["labels"], f"{source}, labels") if "labels" in arrays else None,
        population=_by_model(arrays[outside], kind, f"{source}, {outside}") if outside in arrays else (),
        population_labels=checked_labels(arrays["population_labels"], f"{source}, population_labels")
        if "population_labels" in arrays
        else None,
    )


def _kind(arrays: Mapping[str, np.ndarray], source: str) -> Kind:
    found = [kind for kind in KINDS if kind in arrays]
    if len(found) != 1:
        raise DataError(
            f"{source}: expected one of the arrays {', '.join(KINDS)}, got {' and '.join(found) or 'none'} "
            f"among {', '.join(sorted(arrays)) or 'no arrays at all'}"
        )
    return found[0]


def _by_model(array: np.ndarray, kind: Kind, where: str) -> tuple[np.ndarray, ...]:
    floating(array, where)
    axes = 3 if kind == "scores" else 4
    if array.ndim not in (axes - 1, axes) or 0 in array.shape:
        shape = "[models records queries]" if kind == "scores" else "[models records queries classes]"
        raise DataError(f"{where}: expected {shape}, or without the query axis, and not empty, got {array.shape}")
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


def _name(info: zipfile.ZipInfo, path: Path) -> str:
    if not info.filename.endswith(".npy") or info.flag_bits & 1:
        raise DataError(
            f"{path}: expected an .npz file of plain arrays, but it holds {info.filename!r}; nothing is ever "
            "unpickled: save the arrays with numpy.savez"
        )
    return info.filename.removesuffix(".npy")


def _mapped(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, scratch: Scratch) -> np.ndarray:
    """One array of the archive, mapped where it lies or, if it is compressed, unpacked."""
    if info.compress_type != zipfile.ZIP_STORED:
        with archive.open(info) as stream:
            return _unpacked(scratch.unpacked(stream, info.file_size), f"{path}, {info.filename}")
    where = f"{path}, {info.filename}"
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(stream, where)
        head = stream.tell()
        while stream.read(_CHUNK):  # the checksum is compared at the end
            pass
    if head + dtype.itemsize * int(np.prod(shape, dtype=object)) > info.file_size:
        raise DataError(f"{where}: the array is cut off; write it again with numpy.savez")
    with path.open("rb") as raw:
        raw.seek(info.header_offset + _LOCAL_HEADER - 4)
        lengths = np.frombuffer(raw.read(4), "<u2")
    start = info.header_offset + _LOCAL_HEADER + int(lengths.sum())
    return _map(path, start + head, shape, fortran=fortran, dtype=dtype)


def _unpacked(content: np.ndarray, where: str) -> np.ndarray:
    """The array of an `.npy` file whose bytes are these."""
    head = io.BytesIO(content[:_LONGEST_HEADER].tobytes())
    shape, fortran, dtype = _header(head, where)
    size = math.prod(shape) * dtype.itemsize
    numbers = content[head.tell() : head.tell() + size]
    if len(numbers) < size:
        raise DataError(f"{where}: the array is cut off; write it again with numpy.savez")
    return numbers.view(dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: object, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of an `.npy` stream, which then stands at the first number."""
    try:
        version = np.lib.format.read_magic(stream)  # type: ignore[arg-type]
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = reader(stream)  # type: ignore[arg-type]
    except (ValueError, KeyError) as error:
        raise DataError(f"{where}: not an .npy array ({error}); write it again with numpy.save") from error
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects, a pickle, which is never loaded; save plain numbers")
    return shape, fortran, dtype


def _map(path: Path, offset: int, shape: tuple[int, ...], *, fortran: bool, dtype: np.dtype) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")
