"""Data sets by name, and which of their records play which part.

One file per entry of the registry's `DATASETS`. Importing this package imports neither torch nor
any reader of images; functions on tensors are in `bitleak.data.augment`.
"""

from bitleak.data.augmentation_names import DIGIT_QUERIES, PHOTO_QUERIES, check_queries
from bitleak.data.data_checks import checked_images
from bitleak.data.splits import check_splits, even_mask, make_splits, references
from bitleak.data.subset import limited

__all__ = [
    "DIGIT_QUERIES",
    "PHOTO_QUERIES",
    "check_queries",
    "check_splits",
    "checked_images",
    "even_mask",
    "limited",
    "make_splits",
    "references",
]
