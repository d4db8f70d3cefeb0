"""The embedded data set: 1,797 handwritten digits of 8x8 pixels, which ship with scikit-learn.

Test part of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitleak.core.errors import DataError
from bitleak.core.types import Description, Images
from bitleak.data.data_checks import checked_images, counts_of


@dataclass(frozen=True)
class Digits:
    """Real digits that need no file; the source has no held-out part.

    Pixels come as 0 to 16 and become round(pixel * 255 / 16), 0 to 255.

    Example:
        >>> Digits().describe(None).records
        1797
    """

    def describe(self, root: Path | None) -> Description:
        """Return counts, size and a fingerprint of the pixels and labels.

        Args:
            root: Must be None.

        Raises:
            DataError: A folder was given.
        """
        images = self.load(root)
        digest = hashlib.sha256(images.pixels.tobytes() + images.labels.tobytes()).hexdigest()
        return Description(
            records=len(images.labels),
            held_out=0,
            classes=10,
            channels=1,
            size=8,
            fingerprint=f"digits-{digest}",
            counts=counts_of(images.labels, images.class_names),
        )

    def load(self, root: Path | None) -> Images:
        """Return all records, in scikit-learn's order.

        Args:
            root: Must be None.

        Raises:
            DataError: A folder was given.
        """
        if root is not None:
            raise DataError(
                f"data set digits ships with scikit-learn and reads no folder, got {root}"
            )
        # Here, since importing scikit-learn takes a second.
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        images = Images(
            pixels=np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8),
            labels=labels.astype(np.int64),
            class_names=tuple(map(str, range(10))),
            held_out=np.zeros(len(labels), bool),
        )
        return checked_images(images, "digits")
