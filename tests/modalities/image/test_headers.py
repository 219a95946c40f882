import io
import struct

import numpy as np
import pytest
from PIL import Image

from mmkeras.modalities.image import headers
from tests.modalities.encoded_media import encode_image, exif, png_chunk

NOISE = np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)
TURNED = encode_image(NOISE, "JPEG", exif=exif(6))
JFIF = encode_image(NOISE, "JPEG")


def segment(marker, content):
    return struct.pack(">HH", marker, len(content) + 2) + content


def tiff(kind, value, order="<", count=1):
    """An Exif block whose second entry is the orientation."""
    form = "HHIHxx" if kind == headers.SHORT else "HHII"
    numbers = (headers.ORIENTATION_TAG, kind, count, value)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHII", 0x010F, 2, 1, 0)
    entries += struct.pack(order + form, *numbers)
    return mark + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


def jpeg(*segments):
    return JFIF[:2] + b"".join(segments) + JFIF[2:]


EXIF = segment(0xFFE1, headers.EXIF + tiff(headers.SHORT, 6))
XMP = segment(0xFFE1, b"http://ns.adobe.com/xap/1.0/\0" + b"Exif\0\0" * 999)
ICC = segment(0xFFE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [headers.SHORT, headers.LONG])
def test_the_orientation_is_a_short_or_a_long_number(kind, order):
    for value in range(1, 9):
        assert headers.exif_orientation(tiff(kind, value, order)) == value
    for value in (0, 9, 256):
        assert headers.exif_orientation(tiff(kind, value, order)) == 1


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        tiff(2, 6),
        tiff(headers.SHORT, 6, count=2),
        tiff(headers.SHORT, 6)[:-5],
        tiff(headers.SHORT, 6).replace(b"II*", b"II+"),
    ],
)
def test_a_damaged_block_is_upright(block):
    assert headers.exif_orientation(block) == 1


@pytest.mark.parametrize(
    "segments",
    [
        [EXIF],
        [XMP, EXIF],
        [ICC, EXIF],
        [EXIF, XMP],
        [EXIF, EXIF],
        [b"\xff\xff", EXIF],
        [b"\xff\xd0", EXIF],  # a marker without a length
        [XMP + b"\0", EXIF],
    ],
)
def test_the_exif_block_is_found_behind_other_segments(segments):
    data = jpeg(*segments)
    block, size = headers.jpeg_header(data)
    assert headers.exif_orientation(block) == 6 and size == (13, 17, 3)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6


def test_the_name_of_exif_elsewhere_is_no_block():
    comment = segment(0xFFFE, EXIF)
    for data in (jpeg(XMP), jpeg(comment), JFIF + EXIF, JFIF[:20]):
        assert headers.jpeg_header(data)[0] is None


def test_the_exif_block_of_a_png_is_the_one_before_its_pixels():
    png = encode_image(NOISE)
    chunk = png_chunk(b"eXIf", tiff(headers.SHORT, 6))
    start = png.find(b"IDAT") - 4
    text = png_chunk(b"tEXt", b"a\0" + chunk)
    before = png[:start] + text + chunk + png[start:]
    assert headers.exif_orientation(headers.png_exif(before)) == 6
    assert headers.png_exif(png[:start] + text + png[start:]) == b""
    assert headers.png_exif(png[:-12] + chunk + png[-12:]) == b""


GIF = Image.fromarray(NOISE).quantize(9)


@pytest.mark.parametrize(
    ("options", "is_opaque"),
    [
        ({}, True),
        ({"comment": b"," * 900}, True),
        ({"interlace": 0}, True),
        ({"save_all": True, "append_images": [GIF.rotate(180)]}, True),
        ({"transparency": 2}, False),
    ],
)
def test_a_gif_with_transparency_is_not_opaque(options, is_opaque):
    data = encode_image(GIF, "GIF", **options)
    assert headers.is_opaque_gif(data) == is_opaque
    larger = data[:6] + struct.pack("<HH", 23, 18) + data[10:]
    assert not headers.is_opaque_gif(larger)


def test_only_bmp_of_24_or_32_bits_is_true_color():
    for mode, expected in {"RGB": True, "RGBA": True, "P": False, "1": False}.items():
        data = encode_image(NOISE, "BMP", mode)
        assert headers.is_true_color_bmp(data) == expected
        assert not headers.is_true_color_bmp(data[:33])
