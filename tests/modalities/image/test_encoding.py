import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.modalities.image.encoding import make_thumbnail, png_bytes


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    np.testing.assert_array_equal(decoded(png_bytes(pixels)), pixels)


@pytest.mark.parametrize("size", [(40, 30), (900, 700)])
def test_a_thumbnail_of_16_bits_has_the_brightness_that_the_model_gets(size):
    gray = np.full(size[::-1], 30_000, np.uint16)
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG")
    pixels = decoded(make_thumbnail(file.getvalue())).astype(int)
    assert np.abs(pixels - (30_000 >> 8)).max() <= 1
