"""The output folder, and writing a file so that a reader sees the old one or the new one, never half of it."""

import os
from pathlib import Path

from bitleak.core.errors import StoreError

REMEDY = (
    "run `bitleak audit CONFIG --out DIR` again, or `bitleak attack SCORES --out DIR`; what is in the store is not "
    "computed twice"
)
"""Ends the messages about a file of an output folder that cannot be used."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` into a temporary file of the same folder and rename it.

    Args:
        path: Where it goes; missing folders are made.
        content: All of the file.

    Raises:
        StoreError: The folder cannot be made or written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error


def check_out(out: Path) -> None:
    """Makes the output folder.

    Raises:
        StoreError: It is a file, or it cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise StoreError(f"--out {out}: expected a folder, got a file")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"--out {out}: cannot be made ({error.strerror}); give another folder") from None
    if not os.access(out, os.W_OK):
        raise StoreError(f"--out {out}: no permission to write; give another folder")
