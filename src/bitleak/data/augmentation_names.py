"""The names of augmentations: random ones for training, fixed ones for evaluation.

The fixed ones:

| name | image |
|---|---|
| `identity` | as it is; always the first |
| `flip` | mirrored left to right |
| `shift:DX,DY` | moved DX pixels right and DY down (negative: left, up); the rest is 0 |
"""

import re
from collections.abc import Sequence
from typing import Literal

Augment = Literal["flip", "crop"]
"""`flip`: mirrored left to right with probability 1/2. `crop`: `padding(size)` black pixels on
every side, then a random window of the image's size, all windows equally likely.
"""

AUGMENTS: tuple[Augment, ...] = ("flip", "crop")

DIGIT_QUERIES = ("identity", "shift:1,0", "shift:-1,0", "shift:0,1", "shift:0,-1")
"""For digits of 8x8 pixels, which a mirror would make other characters."""

PHOTO_QUERIES = ("identity", "flip", "shift:2,2", "shift:-2,-2")
"""For small photographs such as CIFAR's, within the range of training with flip and crop."""


def check_queries(names: Sequence[str], size: int | None = None) -> tuple[str, ...]:
    """Return the names, or refuse them if models cannot be evaluated under them.

    Args:
        names: At least one; the first is `identity`, none occurs twice.
        size: Height and width of the images, which a shift must not reach; None does not check it.

    Raises:
        ValueError: A name is not known, occurs twice, shifts too far, or the first is not
            `identity`.

    Example:
        >>> check_queries(["identity", "turn"])
        Traceback (most recent call last):
        ...
        ValueError: query must be 'identity', 'flip' or 'shift:DX,DY' with whole numbers, got 'turn'
    """
    for name in names:
        offset = offsets(name)
        if size is not None and max(map(abs, offset or (0, 0))) >= size:
            raise ValueError(f"query {name!r} moves an image of {size}x{size} pixels out of sight")
    if not names or names[0] != "identity":
        raise ValueError(f"the first query must be 'identity', got {list(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"queries must differ from each other, got {list(names)}")
    return tuple(names)


def offsets(name: str) -> tuple[int, int] | None:
    """Return pixels to the right and down for a shift, None for `identity` and `flip`.

    ValueError for other names.
    """
    if name in ("identity", "flip"):
        return None
    match = re.fullmatch(r"shift:(-?\d+),(-?\d+)", name)
    if match is None:
        raise ValueError(
            f"query must be 'identity', 'flip' or 'shift:DX,DY' with whole numbers, got {name!r}"
        )
    return int(match[1]), int(match[2])
