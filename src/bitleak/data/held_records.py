"""Records that a caller handed over as arrays, as a data set of this process.

A plan names them by the digest of their content. Only this process knows the arrays, so its tasks
run in the executor `serial`; their results in a store serve later calls with the same arrays.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bitleak.core.errors import DataError
from bitleak.core.types import Description, Images
from bitleak.data.data_checks import counts_of

_GIVEN: dict[str, Images] = {}


def hold_records(images: Images) -> str:
    """Keep records for this process, and return their digest."""
    content = hashlib.sha256()
    for array in (images.pixels, images.labels):
        content.update(f"{array.dtype} {array.shape} ".encode())
        content.update(np.ascontiguousarray(array).data)
    digest = content.hexdigest()
    _GIVEN[digest] = images
    return digest


@dataclass(frozen=True)
class GivenImages:
    """Images that `hold` keeps.

    Attributes:
        digest: Digest of their content.
    """

    digest: str

    def describe(self, root: Path | None) -> Description:
        """Describe the records; `root` must be None, as they have no files."""
        return _described(self.digest)

    def load(self, root: Path | None) -> Images:
        """Return the records; `root` must be None, as they have no files.

        Raises:
            DataError: This process was not given them.
        """
        return _held(self.digest)


@dataclass(frozen=True)
class GivenRows:
    """Rows of numbers that `hold` keeps.

    Attributes:
        digest: Digest of their content.
    """

    digest: str

    is_table: ClassVar[bool] = True
    """Whether records are rows of numbers."""

    def describe(self, root: Path | None) -> Description:
        """Describe the records; `root` must be None, as they have no files."""
        return _described(self.digest)

    def load(self, root: Path | None) -> Images:
        """Return the records; `root` must be None, as they have no files.

        Raises:
            DataError: This process was not given them.
        """
        return _held(self.digest)


def _held(digest: str) -> Images:
    if digest not in _GIVEN:
        raise DataError(
            "records that were given as arrays are known to the process of audit_model alone; call it again"
        )
    return _GIVEN[digest]


def _described(digest: str) -> Description:
    images = _held(digest)
    return Description(
        records=len(images.labels),
        held_out=int(images.held_out.sum()),
        classes=len(images.class_names),
        channels=images.channels,
        size=images.size,
        fingerprint=digest,
        counts=counts_of(images.labels, images.class_names),
    )
