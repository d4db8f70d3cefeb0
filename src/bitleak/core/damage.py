"""Errors of libraries on damaged files, turned into one line of bitleak.

A damaged file reaches its reader's library at any depth, and each of them has errors of its own:
`zlib.error` and `lzma.LZMAError` of packed streams, `struct.error` of short headers,
`tokenize.TokenError` of a header cut in a bracket, `RecursionError` of nesting, `OverflowError` of
sizes, `UnicodeDecodeError` of names, `TypeError` and `AttributeError` of metadata of another type.
`MemoryError` is not among them: sizes are checked before room is made.
"""

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from bitleak.core.errors import BitleakError

DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
"""Errors that count as damage, but only around a library's call on a file from elsewhere."""

LONGEST_REASON = 300
"""Number of letters of a library's message that are shown."""


@contextmanager
def damage_as(
    kind: type[BitleakError],
    message: str,
    advice: str = "",
    *,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn an error of a library on a file into one of bitleak; those of bitleak pass.

    Args:
        kind: Error to raise.
        message: File and problem; the reason is put after it.
        advice: Remedy, which ends the message.
        also: Further errors of the library.

    Raises:
        BitleakError: An error of that kind, in one line.

    Example:
        >>> from bitleak.core.errors import DataError
        >>> with damage_as(DataError, "a.npz: not readable", "write it again"):
        ...     zlib.decompress(b"no")
        Traceback (most recent call last):
        ...
        bitleak.core.errors.DataError: a.npz: not readable: Error -3 while decompressing data: ...; write it again
    """
    try:
        yield
    except (*DAMAGE, *also) as error:
        raise kind(f"{message}: {reason(error)}{f'; {advice}' if advice else ''}") from error


def reason(error: Exception) -> str:
    r"""Return an error's message as one line of at most `LONGEST_REASON` letters; its kind if it has none.

    Example:
        >>> reason(KeyError("a")), reason(ValueError()), reason(ValueError("one\n  two"))
        ("KeyError: 'a'", 'ValueError', 'one two')
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(text.split())
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, KeyError) or not line:
        line = f"{type(error).__name__}: {line}".removesuffix(": ")
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
