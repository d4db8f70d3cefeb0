"""Pixels of formats and modes as people have them: the right array, or a refusal that says why."""

import io

import numpy as np
import pytest
from PIL import Image

from bitleak.core.errors import DataError
from bitleak.data import image_metadata
from bitleak.data.data_notes import empty_channels
from bitleak.data.decode import stacked
from bitleak.data.hub import Hub
from bitleak.data.image_metadata import marks_of


def saved(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(content):
    """The image as `[channels, height, width]`."""
    return stacked([(content, "here")], 1)[0]


@pytest.fixture
def photo(make):
    return make.photos(1)[0]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_become_light(kind):
    # no ink is white, full cyan leaves green and blue, black ink leaves nothing
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]], np.uint8)
    expected = [[255, 255, 255], [0, 255, 255], [0, 0, 0]]
    for ink, colour in zip(inks, expected, strict=True):
        image = Image.fromarray(np.tile(ink, (8, 8, 1)), "CMYK")
        assert np.abs(decoded(saved(image, kind))[:, 4, 4].astype(int) - colour).max() <= 3


def test_a_palette_is_replaced_by_its_colours_and_transparency_by_the_colour_under_it(photo):
    palette = Image.fromarray(photo).quantize(8)
    colours = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    content = saved(palette, transparency=3)
    assert np.array_equal(decoded(content), colours)
    assert marks_of([(content, "here")]).transparent == 1
    assert marks_of([(saved(palette), "here")]).transparent == 0


@pytest.mark.parametrize(
    ("mode", "kind", "transparent"),
    [
        ("RGBA", "PNG", 1),
        ("LA", "PNG", 1),
        ("RGB", "PNG", 0),
        ("L", "PNG", 0),
        ("RGBA", "TIFF", 1),
        ("RGB", "TIFF", 0),
    ],
)
def test_alpha_channels_are_dropped_and_counted(photo, mode, kind, transparent):
    image = Image.fromarray(photo).convert(mode)
    expected = np.asarray(Image.fromarray(photo).convert(mode[0] if mode[0] == "L" else "RGB"))
    if transparent:
        image.putalpha(Image.fromarray(photo[:, :, 0]))
    content = saved(image, kind)
    assert np.array_equal(decoded(content), np.atleast_3d(expected).transpose(2, 0, 1))
    assert marks_of([(content, "here")]).transparent == transparent


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 60}, {"lossless": True, "exif": b"Exif"}]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "opaque"])
def test_transparency_of_a_webp_is_what_opening_it_shows(photo, mode, options):
    image = Image.fromarray(photo)
    if mode != "RGB":
        image.putalpha(255 if mode == "opaque" else Image.fromarray(photo[:, :, 0]))
    content = saved(image, "WEBP", **options)
    with Image.open(io.BytesIO(content)) as opened:
        expected = int(opened.has_transparency_data)
    assert expected == (mode == "RGBA") or mode == "opaque"
    assert marks_of([(content, "here")]).transparent == expected


def test_a_plain_webp_is_not_opened(photo, monkeypatch):
    def refuse(*_):
        raise AssertionError("opened")

    monkeypatch.setattr(image_metadata, "_opens", refuse)
    for lossless in (True, False):
        content = saved(Image.fromarray(photo), "WEBP", lossless=lossless)
        assert marks_of([(content, "here")]) == image_metadata.Marks(0, 0)


def test_transparency_is_said_before_work(tmp_path, make, photo):
    make.write_parquet(
        tmp_path / "train.parquet",
        [saved(Image.fromarray(photo).convert("RGBA")), photo, photo],
        [0, 1, 2],
    )
    notes = Hub(str(tmp_path)).describe(None).notes
    assert any(note.startswith("1 images have transparency, which is dropped") for note in notes)


def test_one_bit_is_black_and_white(photo):
    bits = photo[:, :, 0] > 127
    for kind in ("PNG", "TIFF", "PPM", "BMP"):
        assert np.array_equal(
            decoded(saved(Image.fromarray(bits), kind))[0], np.where(bits, 255, 0)
        )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_grey_stays_one_channel_and_exact(photo, kind):
    assert np.array_equal(
        decoded(saved(Image.fromarray(photo[:, :, 0]), kind)), photo[None, :, :, 0]
    )


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused(photo, kind):
    frames = [Image.fromarray(photo), Image.fromarray(255 - photo)]
    with pytest.raises(DataError, match="here: image must have one frame, got 2"):
        decoded(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert decoded(saved(frames[0], kind)).shape == (3, 6, 6)


def deep_tiff(order):
    """An uncompressed TIFF of 2x2 pixels with three channels of 16 bits."""
    mark, end = {"little": (b"II", "little"), "big": (b"MM", "big")}[order]

    def entry(tag, kind, count, value):
        size = {3: 2, 4: 4}[kind]
        data = value.to_bytes(size, end).ljust(4, b"\0") if count == 1 else value.to_bytes(4, end)
        return tag.to_bytes(2, end) + kind.to_bytes(2, end) + count.to_bytes(4, end) + data

    entries = [
        (256, 3, 1, 2),
        (257, 3, 1, 2),
        (258, 3, 3, 134),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 140),
    ]
    entries += [(277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24), (284, 3, 1, 1)]
    table = len(entries).to_bytes(2, end) + b"".join(entry(*one) for one in entries) + bytes(4)
    head = mark + (42).to_bytes(2, end) + (8).to_bytes(4, end) + table
    return head.ljust(134, b"\0") + (16).to_bytes(2, end) * 3 + bytes(24)


@pytest.mark.parametrize(
    "content",
    [
        deep_tiff("little"),
        deep_tiff("big"),
        b"P6 2 2 65535\n" + bytes(24),
        b"P6 2 2 1023\n" + bytes(24),
        b"P5 2 2 65535\n" + bytes(8),
        b"P3 2 2 1023\n" + b"9 " * 12,
    ],
)
def test_more_than_eight_bits_are_refused_whatever_the_format(content):
    with pytest.raises(DataError, match="here: image must have 8 bits per channel, got"):
        decoded(content)


def test_few_grey_levels_are_stretched():
    assert decoded(b"P5 2 2 15\n\x00\x0f\x03\x01").ravel().tolist() == [0, 255, 51, 17]


def test_sixteen_bits_per_pixel_are_no_sixteen_bits_per_channel():
    # BMP of one pixel in 5-6-5 bits: full red
    masks = b"".join(mask.to_bytes(4, "little") for mask in (0xF800, 0x07E0, 0x001F))
    numbers = [
        (40, 4),
        (1, 4),
        (1, 4),
        (1, 2),
        (16, 2),
        (3, 4),
        (4, 4),
        (0, 4),
        (0, 4),
        (0, 4),
        (0, 4),
    ]
    header = b"".join(number.to_bytes(size, "little") for number, size in numbers)
    offset = 14 + len(header) + len(masks)
    head = b"BM" + (offset + 4).to_bytes(4, "little") + bytes(4) + offset.to_bytes(4, "little")
    pixels = decoded(head + header + masks + (0xF800).to_bytes(2, "little") + bytes(2))
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]


def test_suffixes_may_be_in_capitals(tmp_path, photo):
    for number, (suffix, kind) in enumerate(
        [("JPG", "JPEG"), ("PNG", "PNG"), ("TIF", "TIFF"), ("BmP", "BMP"), ("Gif", "GIF")]
    ):
        file = tmp_path / "train" / "ab"[number % 2] / f"{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(saved(Image.fromarray(photo), kind))
    assert Hub(str(tmp_path)).describe(None).counts == (("a", 3), ("b", 2))


def test_the_hubs_folder_of_a_plain_configuration_is_read(tmp_path, make):
    for split, count in {"train": 4, "test": 2}.items():
        make.write_parquet(
            tmp_path / "plain_text" / f"{split}-00000-of-00001.parquet",
            make.photos(count),
            [0, 1] * (count // 2),
        )
    description = Hub(str(tmp_path)).describe(None)
    assert (description.records, description.held_out) == (6, 2)


def test_an_empty_channel_of_colour_images_is_said_before_work(tmp_path, make):
    from bitleak.data.array_files import Arrays

    pixels = make.photos(4)
    pixels[..., 2] = 7
    np.savez(tmp_path / "d.npz", pixels=pixels, labels=np.array([0, 1, 0, 1]))
    said = "Channel 2 has one value in all images: it is standardised with deviation 1."
    assert Arrays(str(tmp_path / "d.npz")).describe(None).notes == (said,)
    assert empty_channels(Arrays(str(tmp_path / "d.npz")).load(None)) == (said,)
