"""From encoded images to one array, with an error that names the file and row.

Rule for colours: if every image is greyscale (Pillow's modes 1, L and LA), there is one channel;
otherwise all become RGB, greyscale ones by repeating their channel, transparency dropped. Images
of more than 8 bits per channel are refused, since their scaling to 0..255 would be a guess, and so
are images of several frames. The EXIF orientation is applied, as the `datasets` library does.

Only the readers of `FORMATS` are open: others of Pillow start programs or read rare formats.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from bitleak.core.errors import DataError

GREY = ("1", "L", "LA")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow's readers that may be used; files of a phone's MPO are read by JPEG's."""

_ORIENTATION = 0x0112
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
        with opened(source) as image:
            width, height = image.size
            refused = _refused(image) if width == height else ""
            # a picture of a wrong shape, depth or frame count is not decoded
            array = np.empty((height, width)) if width != height or refused else _upright(image)
    except Exception as error:  # Pillow's decoders raise almost anything on broken bytes
        raise DataError(f"{where}: image cannot be decoded: {error}") from error
    if refused:
        raise DataError(f"{where}: {refused}")
    if array.shape[0] != array.shape[1]:
        raise DataError(f"{where}: image must be square, got {array.shape[0]}x{array.shape[1]} (height x width)")
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _refused(image: Image.Image) -> str:
    """The reason why an opened image is not decoded; empty if it can be."""
    if image.mode in DEEP:
        return f"image must have 8 bits per channel, got Pillow's mode {image.mode!r}"
    if any(_is_deep(raw) for raw in _raw_modes(image)):
        return f"image must have 8 bits per channel, got 16 bits per channel (Pillow's mode {image.mode!r})"
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    return f"image must have one frame, got {frames}" if frames > 1 else ""


def _is_deep(raw: str) -> bool:
    """Return whether a raw mode has 16 bits per channel; `BGR;16` has 16 per pixel, in a BMP."""
    return ";16" in raw and not raw.startswith("BGR;")


def _raw_modes(image: Image.Image) -> Iterator[str]:
    """Yield how the file stores its pixels, such as `RGB` or `RGB;16B`.

    A PPM's largest value above 255 counts as 16 bits.
    """
    for tile in getattr(image, "tile", ()):
        values = tile[3] if isinstance(tile[3], tuple | list) else (tile[3],)
        yield from (value for value in values if isinstance(value, str))
        if image.format == "PPM" and any(isinstance(value, int) and value > 255 for value in values[1:]):
            yield "PPM;16"


def is_turned(image: Image.Image) -> bool:
    """Return whether an opened image has an orientation that is not upright."""
    return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


def _upright(image: Image.Image) -> np.ndarray:
    """Return the pixels `[size, size]` or `[size, size, 3]`, turned as the file's orientation demands."""
    upright = ImageOps.exif_transpose(image) if is_turned(image) else image
    return np.asarray(upright.convert("L" if image.mode in GREY else "RGB"))


def _mode(source: bytes | Path, where: str) -> str:
    try:
        with opened(source) as image:
            return image.mode
    except Exception as error:
        raise DataError(f"{where}: image cannot be read: {error}") from error


def opened(source: bytes | Path) -> Image.Image:
    """Open an image with one of the readers of `FORMATS`; pixels are decoded only when they are needed.

    Raises:
        DataError: Not a regular file.
        Exception: Pillow's own, of almost any kind.
    """
    if isinstance(source, Path) and not source.is_file():  # a named pipe would wait for ever
        raise DataError("not a regular file")
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[2]}"
