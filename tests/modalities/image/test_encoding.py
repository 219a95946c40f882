import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.config import ImageConfig
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.column import Image as ImageColumn
from mmkeras.modalities.image.encoding import make_thumbnail, png_bytes
from mmkeras.modalities.image.reading import decode_upright
from tests.modalities.encoded_media import encode_image


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    np.testing.assert_array_equal(decoded(png_bytes(pixels)), pixels)


def test_the_graph_decodes_what_pillow_cannot_open():
    green = np.full((8, 8, 3), (0, 128, 0), np.uint8)
    jpeg = encode_image(green, "JPEG", quality=95)
    jpeg = jpeg[:2] + b"\xff\xe0\0\x07JFIF\0" + jpeg[2:]  # cut
    with pytest.raises(Unreadable):
        decode_upright(jpeg)
    decoder = ImageColumn("image", ImageConfig(size_px=32)).decoder
    pixels = decoded(make_thumbnail(jpeg, decoder)).astype(int)
    assert pixels.shape == (32, 32, 3) and np.abs(pixels - green[0, 0]).max() < 3


@pytest.mark.parametrize("size", [(40, 30), (900, 700)])
def test_a_thumbnail_of_16_bits_has_the_brightness_that_the_model_gets(size):
    gray = np.full(size[::-1], 30_000, np.uint16)
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG")
    pixels = decoded(make_thumbnail(file.getvalue(), None)).astype(int)
    assert np.abs(pixels - (30_000 >> 8)).max() <= 1
