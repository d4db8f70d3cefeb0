"""From encoded images to one array, with an error that names the file and row.

Rule for colours: if every image is greyscale (Pillow's modes 1, L and LA), there is one channel;
otherwise all become RGB, greyscale ones by repeating their channel, transparency dropped. Images
of more than 8 bits per channel are refused, since their scaling to 0..255 would be a guess, and so
are images of several frames. The EXIF orientation is applied, as the `datasets` library does.
Sizes are compared as headers state them, before anything is decoded.

Only the readers of `IMAGE_FORMATS` are open: others of Pillow start programs or read rare formats.
"""

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from bitleak.core.damage import damage_as
from bitleak.core.errors import DataError

GREY = ("1", "L", "LA")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow's readers that may be used; files of a phone's MPO are read by JPEG's."""

MOST_PIXELS = 1 << 26
"""Pixels of an image at most, by its header: 8192 x 8192."""

_ORIENTATION = 0x0112
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

Item = tuple[bytes | Path, str]
"""An encoded image (its bytes, or its file), and where it comes from, for the message."""


def stacked(
    items: Iterable[Item], count: int
) -> UInt8[np.ndarray, "records channels height width"]:
    """Return all images decoded, in order.

    Args:
        items: The encoded images.
        count: Number of images, at least 1.

    Raises:
        DataError: An image cannot be decoded, is not square, or is not of the first one's size.
    """
    pixels = np.empty((0, 1, 0, 0), np.uint8)
    for row, (source, where) in enumerate(items):
        image = _decoded(source, where, expected=pixels.shape[2] if row else None)
        if row == 0:
            pixels = np.empty((count, *image.shape), np.uint8)
        # The first image in colour turns all before it into RGB.
        if image.shape[0] > pixels.shape[1]:
            pixels = np.repeat(pixels, 3, axis=1)
        pixels[row] = image
    return pixels


def geometry(items: Iterable[Item]) -> tuple[int, int]:
    """Return channels and size of the stacked images, from one decoded image and few headers.

    Raises:
        DataError: There is no image, or one that was read is damaged or not square.
    """
    # One image in colour decides; only greyscale sets are read to their end.
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


def _decoded(
    source: bytes | Path, where: str, expected: int | None = None
) -> UInt8[np.ndarray, "channels height width"]:
    """Decode an image, or refuse it for the size, depth or number of frames in its header."""
    with _damage_of(where, "decoded"), opened(source) as image:
        refused = _refused_size(image, expected) or _refused(image)
        if refused:
            raise DataError(f"{where}: {refused}")
        array = _upright(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@contextmanager
def _damage_of(where: str, verb: str) -> Iterator[None]:
    """Turn errors of Pillow into one line; silence its warnings on damaged tags and large pictures.

    Its decoders report some kinds of broken bytes by a `MemoryError`; sizes have been compared by
    then.
    """
    also = (Image.DecompressionBombError, MemoryError)
    with (
        damage_as(DataError, f"{where}: image cannot be {verb}", also=also),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _refused_size(image: Image.Image, expected: int | None) -> str:
    """Return the reason why an image of this size is not decoded; empty if it can be."""
    width, height = image.size
    if width != height:
        return f"image must be square, got {height}x{width} (height x width)"
    if expected is not None and width != expected:
        return f"image must be {expected}x{expected} like the first one, got {height}x{width}"
    return _too_large(width, height)


def _too_large(width: int, height: int) -> str:
    if width * height <= MOST_PIXELS:
        return ""
    return (
        f"image must have at most {MOST_PIXELS:,} pixels, got {height}x{width} (height x width); "
        "make the images smaller"
    )


def _refused(image: Image.Image) -> str:
    """Return the reason why an opened image is not decoded; empty if it can be."""
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
    """Yield the raw modes of the file's pixels, such as `RGB` or `RGB;16B`.

    A PPM's largest value above 255 counts as 16 bits.
    """
    for tile in getattr(image, "tile", ()):
        values = tile[3] if isinstance(tile[3], tuple | list) else (tile[3],)
        for index, value in enumerate(values):
            if isinstance(value, str):
                yield value
            elif image.format == "PPM" and index and isinstance(value, int) and value > 255:
                yield "PPM;16"


def is_turned(image: Image.Image) -> bool:
    """Return whether an opened image has an orientation that is not upright."""
    return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


def _upright(image: Image.Image) -> np.ndarray:
    """Return the pixels `[size, size]` or `[size, size, 3]`, in the file's orientation."""
    upright = ImageOps.exif_transpose(image) if is_turned(image) else image
    mode = "L" if image.mode in GREY else "RGB"
    # converting to the same mode is a copy
    return np.asarray(upright if upright.mode == mode else upright.convert(mode))


def _mode(source: bytes | Path, where: str) -> str:
    with _damage_of(where, "read"), opened(source) as image:
        return image.mode


def opened(source: bytes | Path) -> Image.Image:
    """Open an image with one of the readers of `IMAGE_FORMATS`.

    Pixels are decoded only when they are needed.

    Raises:
        Exception: Not a regular file, or Pillow's own, of almost any kind.
    """
    if isinstance(source, Path) and not source.is_file():  # a named pipe would wait for ever
        raise OSError("not a regular file")
    _check_canvas(source)
    try:
        return Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=IMAGE_FORMATS
        )
    except UnidentifiedImageError:
        raise OSError(
            f"cannot identify image file; known formats: {', '.join(IMAGE_FORMATS)}"
        ) from None


def _check_canvas(source: bytes | Path) -> None:
    """Refuse a WebP with too large a canvas, for which memory is taken as soon as it is opened.

    Raises:
        ValueError: The canvas in its header is too large.
    """
    if isinstance(source, bytes):
        head = source[:30]
    else:
        with source.open("rb") as file:
            head = file.read(30)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return
    # The three kinds of a first chunk: extended (24 bits each), lossless and lossy (14 bits each).
    if head[12:16] == b"VP8X":
        width = 1 + int.from_bytes(head[24:27], "little")
        height = 1 + int.from_bytes(head[27:30], "little")
    elif head[12:16] == b"VP8L":
        packed = int.from_bytes(head[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width = int.from_bytes(head[26:28], "little") & 0x3FFF
        height = int.from_bytes(head[28:30], "little") & 0x3FFF
    if reason := _too_large(width, height):
        raise ValueError(reason)
