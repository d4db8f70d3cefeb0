"""A file with a number per record, equal for records that depend on each other."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from bitleak.core.errors import DataError
from bitleak.core.npy import read_array


def read_groups(path: Path) -> tuple[Int64[np.ndarray, "records"], str]:
    """Return the numbers of an `.npy` file, and a digest of them.

    Args:
        path: The file, of integers with one axis: one per record of the data set, in its order.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    if not path.is_file():
        raise DataError(f"clusters: {path}: no such file; give an .npy file, or `copies`")
    with path.open("rb") as stream:
        array = read_array(stream, f"clusters: {path}", path.stat().st_size)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise DataError(
            f"clusters: {path}: expected integers [records], got {array.dtype} {array.shape}; "
            "for names, save numpy.unique(names, return_inverse=True)[1]"
        )
    groups = np.array(array, "<i8")
    return groups.astype(np.int64), hashlib.sha256(groups.tobytes()).hexdigest()[:16]
