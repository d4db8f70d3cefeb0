"""From encoded images to one array, with an error that names the file and row.

Rule for colours: if every image is greyscale (Pillow's modes 1, L and LA), there is one channel;
otherwise all become RGB, greyscale ones by repeating their channel, transparency dropped. Images
of more than 8 bits per channel are refused, since their scaling to 0..255 would be a guess.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bitleak.core.errors import DataError

GREY = ("1", "L", "LA")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

Item = tuple[bytes | Path, str]
"""An encoded image (its bytes, or its file), and where it comes from, for the message."""


def stacked(items: Iterable[Item], count: int) -> UInt8[np.ndarray, "records channels height width"]:
    """All images decoded, in order.

    Args:
        items: The encoded images.
        count: How many there are, at least 1.

    Raises:
        DataError: An image cannot be decoded, is not square, or is not of the first one's size.
    """
    pixels = np.empty((0, 1, 0, 0), np.uint8)
    for row, (source, where) in enumerate(items):
        image = _decoded(source, where)
        if row == 0:
            pixels = np.empty((count, *image.shape), np.uint8)
        if image.shape[1:] != pixels.shape[2:]:
            raise DataError(f"{where}: image must be {_size(pixels[0])} like the first one, got {_size(image)}")
        if image.shape[0] > pixels.shape[1]:
            pixels = np.repeat(pixels, 3, axis=1)
        pixels[row] = image
    return pixels


def geometry(items: Iterable[Item]) -> tuple[int, int]:
    """Channels and size of the stacked images, from one decoded image and as few headers as will do.

    Raises:
        DataError: There is no image, or one that was looked at cannot be read or is not square.
    """
    size = 0
    for row, (source, where) in enumerate(items):
        if row == 0:
            image = _decoded(source, where)
            size = image.shape[1]
            if image.shape[0] == 3:
                return 3, size
        elif _mode(source, where) not in GREY:
            return 3, size
    return 1, size


def _decoded(source: bytes | Path, where: str) -> UInt8[np.ndarray, "channels height width"]:
    try:
        with _opened(source) as image:
            mode = image.mode
            array = None if mode in DEEP else np.asarray(image.convert("L" if mode in GREY else "RGB"))
    except Exception as error:  # Pillow's decoders raise almost anything on broken bytes
        raise DataError(f"{where}: image cannot be decoded: {error}") from error
    if array is None:
        raise DataError(f"{where}: image must have 8 bits per channel, got Pillow's mode {mode!r}")
    if array.shape[0] != array.shape[1]:
        raise DataError(f"{where}: image must be square, got {array.shape[0]}x{array.shape[1]} (height x width)")
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _mode(source: bytes | Path, where: str) -> str:
    try:
        with _opened(source) as image:
            return image.mode
    except Exception as error:
        raise DataError(f"{where}: image cannot be read: {error}") from error


def _opened(source: bytes | Path) -> Image.Image:
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[2]}"
