"""What is written has reached the disk."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Waits until a file, or the entries of a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
