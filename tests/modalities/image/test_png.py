import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.png import encode_png

GRAY = np.array([[0, 300], [70_000, 65_535]])


def decode(png):
    image = Image.open(io.BytesIO(png))
    return image.mode, np.array(image).tolist()


@pytest.mark.parametrize("kind", ["int32", "uint16"])
def test_16_bits_of_gray_are_kept(kind):
    _, pixels = decode(encode_png(Image.fromarray(GRAY.clip(0, 65_535).astype(kind))))
    assert pixels == [[0, 300], [65_535, 65_535]]
    _, pixels = decode(encode_png(Image.fromarray(GRAY.astype("int32"))))
    assert pixels == [[0, 300], [65_535, 65_535]]


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
def test_pixels_are_encoded_without_loss(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    _, result = decode(encode_png(pixels))
    assert (
        result
        == pixels.reshape([*shape[:2], *[c for c in shape[2:] if c > 1]]).tolist()
    )


def test_pixels_of_another_shape_are_unreadable():
    with pytest.raises(Unreadable, match="is an image that cannot be read"):
        encode_png(np.zeros((2, 3, 5), np.uint8))
