import struct
import zlib

import numpy as np
import pytest

from mmkeras.modalities.image.metadata import measure_image
from tests import table_factory
from tests.modalities.encoded_media import IMAGE_FORMATS, encode_image, exif

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 17, 4), np.uint8)
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "RGB": 3, "P": 3, "RGBA": 4, "CMYK": 4}


@pytest.mark.parametrize(("kind", "mode"), IMAGE_FORMATS)
def test_an_image_has_its_stored_size_and_channels(kind, mode):
    assert measure_image(encode_image(PIXELS, kind, mode)) == {
        "width_px": 17,
        "height_px": 13,
        "channels": CHANNELS[mode],
    }


def test_a_palette_with_a_transparent_color_is_three_channels():
    data = encode_image(PIXELS, mode="P", transparency=3)
    assert measure_image(data)["channels"] == 3


def test_sixteen_bits_of_gray_and_alpha_are_two_channels():
    data = encode_image(PIXELS)
    assert data[24:26] == b"\x08\x06"
    gray_alpha = data[:24] + b"\x10\x04" + data[26:]
    check = struct.pack(">I", zlib.crc32(gray_alpha[12:29]))
    gray_alpha = gray_alpha[:29] + check + gray_alpha[33:]
    assert measure_image(gray_alpha)["channels"] == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_size_is_that_before_the_orientation(kind):
    result = measure_image(encode_image(PIXELS, kind, "RGB", exif=exif(6)))
    assert (result["width_px"], result["height_px"]) == (17, 13)


def test_only_the_header_is_read():
    data = table_factory.image(size=(4000, 3000), kind="JPEG")
    assert measure_image(data[: len(data) // 2])["width_px"] == 4000
