import io

import numpy as np
import tensorflow as tf
from PIL import Image

from mmkeras.config import ImageConfig
from mmkeras.modalities import heatmap
from mmkeras.modalities.image.column import Image as ImageColumn
from mmkeras.modalities.image.occlusion import GRID, draw_effects, hide_regions
from tests.modalities.encoded_media import encode_image, exif


def mask_of(grid, *index):
    """A window of one cell, row or column, (1, *grid)."""
    mask = np.zeros((1, *grid), bool)
    mask[0][index] = True
    return mask


def hidden_image(pixels, mask):
    (data,) = hide_regions(pixels, mask)
    return tf.io.decode_png(data).numpy()


def test_a_hidden_region_has_the_colour_of_the_edge_and_the_rest_is_unchanged():
    pixels = np.full((32, 32, 3), (250, 240, 230), np.uint8)
    pixels[8:16, 16:24] = (200, 0, 0)
    assert (hidden_image(pixels, mask_of((4, 4), 1, 2)) == (250, 240, 230)).all()
    np.testing.assert_array_equal(hidden_image(pixels, mask_of((4, 4), 2, 2)), pixels)


def test_a_grid_that_does_not_divide_the_side_hides_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 255, (37, 37, 3), np.uint8)
    image = hidden_image(pixels, np.ones((1, 8, 8), bool))
    assert np.ptp(image, axis=(0, 1)).max() == 0


def test_effects_are_drawn_over_the_upright_image():
    pixels = np.full((20, 40, 3), 200, np.uint8)
    data = encode_image(pixels, "JPEG", exif=exif(6))  # a quarter turn
    effects = np.zeros(GRID)
    effects[0], effects[-1] = 0.5, -0.5
    decoder = ImageColumn("image", ImageConfig(size_px=32)).decoder

    picture = draw_effects(data, effects.tolist(), decoder)

    assert picture["scale"] == heatmap.scale_of(effects) == 0.5
    original, coloured = (
        np.asarray(Image.open(io.BytesIO(picture[name]))).astype(int)
        for name in ("original", "heatmap")
    )
    assert original.shape == coloured.shape == (320, 160, 3)
    assert np.ptp(original) <= 6  # gray
    assert coloured[0, 80, 0] > coloured[0, 80, 2] + 80  # orange at the top
    assert coloured[-1, 80, 2] > coloured[-1, 80, 0] + 80  # blue at the bottom


def test_a_transparent_image_is_drawn_on_white():
    clear = np.zeros((16, 16, 4), np.uint8)
    picture = draw_effects(encode_image(clear), np.zeros(GRID).tolist(), None)
    assert (np.asarray(Image.open(io.BytesIO(picture["original"]))) == 255).all()


def test_weights_of_tokens_are_drawn_where_their_places_are():
    pixels = np.full((32, 64, 3), 200, np.uint8)
    column = ImageColumn("image", ImageConfig(encoder="small_cnn", size_px=32))
    weights = np.zeros(16)
    weights[3] = 0.5  # top right
    drawing = column.draw_places(encode_image(pixels, "PNG"), weights, 0.5)
    image = np.asarray(Image.open(io.BytesIO(drawing))).astype(int)
    assert image.shape == (64, 128, 3)
    red_over_blue = image[..., 0] - image[..., 2]
    assert red_over_blue[4, -4] > 80 and red_over_blue[-4, 4] == 0


def test_tokens_of_several_images_are_not_drawn():
    column = ImageColumn("image", ImageConfig(encoder="small_cnn", size_px=32))
    column.items = 2
    data = encode_image(np.full((32, 32, 3), 200, np.uint8), "PNG")
    assert column.draw_places(data, np.ones(4), 1.0) is None
