"""Data sets by name, and which of their records play which part.

One file per entry of the registry's `DATASETS`. Importing this package imports neither torch nor
any reader of images; what runs on tensors is in `bitleak.data.augment`.
"""

from bitleak.data.checks import checked
from bitleak.data.limit import limited
from bitleak.data.queries import DIGIT_QUERIES, PHOTO_QUERIES, check_queries
from bitleak.data.splits import check_splits, even_mask, make_splits, references

__all__ = [
    "DIGIT_QUERIES",
    "PHOTO_QUERIES",
    "check_queries",
    "check_splits",
    "checked",
    "even_mask",
    "limited",
    "make_splits",
    "references",
]
