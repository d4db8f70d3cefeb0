"""Uniform random matrices drawn some columns at a time, without the whole in memory.

A generator fills a matrix row by row. The state of PCG64 can be moved on by any number of draws
(O'Neill 2014, section 4.3.1), so a block of columns has the numbers that the whole matrix has
there. Cost: one move per row and block, about 2 microseconds.
"""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
from jaxtyping import Float64

NUMBERS_AT_ONCE = 1 << 19
"""Random numbers in memory at a time."""


def uniform_columns(
    generator: np.random.Generator, rows: int, columns: int
) -> Iterator[tuple[slice, Float64[np.ndarray, "rows _some"]]]:
    """Yield the columns of `generator.random((rows, columns))`, block by block.

    Args:
        generator: Source of the numbers, which ends in the state after the whole matrix. One without
            PCG64 draws the whole at once.
        rows: Number of rows.
        columns: Number of columns.

    Yields:
        Place of a block among the columns, and its numbers in [0, 1).

    Example:
        >>> blocks = [block for _, block in uniform_columns(np.random.default_rng(0), 3, 4)]
        >>> bool((np.concatenate(blocks, axis=1) == np.random.default_rng(0).random((3, 4))).all())
        True
    """
    step = max(1, NUMBERS_AT_ONCE // max(1, rows))
    blocks = [slice(start, min(start + step, columns)) for start in range(0, columns, step)]
    if len(blocks) < 2 or not isinstance(generator.bit_generator, np.random.PCG64):
        whole = generator.random((rows, columns))
        yield from ((block, whole[:, block]) for block in blocks)
        return

    # one double is one draw of 64 bits
    source = deepcopy(generator.bit_generator)
    first = source.state
    _move(generator.bit_generator, rows * columns)
    drawn = np.random.Generator(source)
    for block in blocks:
        source.state = first
        source.advance(block.start)
        numbers = np.empty((rows, block.stop - block.start))
        for row in numbers:
            drawn.random(out=row)
            source.advance(columns - len(row))
        yield block, numbers


def _move(source: np.random.PCG64, draws: int) -> None:
    """Move on by a number of draws; half a draw that is left from an integer stays, as in draws."""
    left = source.state
    source.advance(draws)
    source.state = {**left, "state": source.state["state"]}
