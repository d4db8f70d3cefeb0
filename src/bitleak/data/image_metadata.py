"""Orientation and transparency that image files carry, found without decoding pixels.

The bytes of every image are searched for the names of the fields; only images that hold one are
opened, so that this costs about as much as reading the files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bitleak.core.errors import DataError
from bitleak.data.decode import Item, is_turned, opened

_METADATA = (b"Exif", b"EXIF", b"eXIf", b"Raw profile type", b"Orientation", b"XML:com.adobe.xmp")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPE = 25
"""Position of the byte for the kind of colour in a PNG: 4 and 6 have an alpha channel."""


@dataclass(frozen=True)
class Marks:
    """Number of images that decoding changes in a way that is worth a sentence.

    Attributes:
        turned: Images with an orientation that is not upright, in EXIF, XMP or TIFF.
        transparent: Images with an alpha channel or a transparent colour.
    """

    turned: int
    transparent: int

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence per kind that occurs."""
        sentences = []
        if self.turned:
            sentences.append(
                f"{self.turned} images are turned or mirrored as their orientation (EXIF) demands"
            )
        if self.transparent:
            sentences.append(
                f"{self.transparent} images have transparency, which is dropped: transparent pixels show the colour "
                "that is stored under them"
            )
        return tuple(sentences)


def marks_of(items: Iterable[Item]) -> Marks:
    """Count the images that carry an orientation or transparency; damaged images have neither.

    Raises:
        DataError: An image is missing.
    """
    turned = transparent = 0
    for source, where in items:
        content = _bytes(source, where)
        if _is_plain_webp(content):
            continue
        # A TIFF has no name for its fields, only numbers.
        if content.startswith(_TIFF) or any(name in content for name in _METADATA):
            turned += _opens(source, is_turned)
        if _may_be_transparent(content):
            transparent += _opens(source, _is_transparent)
    return Marks(turned, transparent)


def _bytes(source: bytes | Path, where: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes() if source.is_file() else b""
    except OSError as error:
        raise DataError(f"{where}: image cannot be read: {error}") from error


def _opens(source: bytes | Path, question: Callable[[Image.Image], bool]) -> bool:
    try:
        with opened(source) as image:
            return question(image)
    except Exception:  # loading it raises the error, with its file and row
        return False


def _may_be_transparent(content: bytes) -> bool:
    # GIF, TIFF and most kinds of WebP have too many places for it: they are opened.
    if content.startswith(_PNG):
        return (
            content[_PNG_COLOUR_TYPE : _PNG_COLOUR_TYPE + 1] in (b"\4", b"\6") or b"tRNS" in content
        )
    return content.startswith((b"GIF8", b"RIFF", *_TIFF))


def _is_plain_webp(content: bytes) -> bool:
    """Return whether the first chunk of a WebP shows that it has neither metadata nor an alpha channel.

    Metadata need an extended header (RFC 9649, section 2.7). A lossless image has a bit for alpha
    (section 3.4), a lossy one without an extended header has none unless there is a chunk `ALPH`.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return False
    if content[12:16] == b"VP8L":
        return content[20:21] == b"\x2f" and not content[24:25] >= b"\x10"
    return content[12:16] == b"VP8 " and b"ALPH" not in content


def _is_transparent(image: Image.Image) -> bool:
    return image.has_transparency_data
