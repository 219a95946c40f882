"""The small encoders of pictures: cnn.py and vit.py."""

import keras
import numpy as np
import pytest

from mmkeras.config import ImageConfig
from mmkeras.encoders import build_image_encoder

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def built(kind, tokens=False, **settings):
    keras.utils.set_random_seed(1)
    settings = {"size_px": 32, "weights": "none", "units": 8, "layers": 1} | settings
    return build_image_encoder(ImageConfig(encoder=kind, heads=2, **settings), tokens)


@pytest.mark.parametrize(
    ("kind", "width", "parameters"),
    [  # convolutions, then what follows them
        ("cnn", 128, 448 + 4_640 + (8 * 8 * 32 + 1) * 128),
        ("cnn_lstm", 128, 896 + 18_496 + 4 * (8 * 64 + 128 + 1) * 128 + 129 * 128),
        ("pixels", 768, 0),
        ("vit", 8, (8 * 8 * 3 + 1) * 8 + 16 * 8 + 872 + 16),
    ],
)
def test_an_encoder_has_its_width_and_its_parameters(kind, width, parameters):
    encoder = built(kind)
    assert encoder.output_shape == (None, width)
    assert encoder.count_params() == parameters


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("cnn", (2, 64, 32)),
        ("cnn_lstm", (2, 8, 128)),
        ("pixels", (2, 256, 3)),
        ("vit", (2, 16, 8)),
        ("small_cnn", (2, 4, 128)),
    ],
)
def test_with_tokens_an_encoder_gives_its_places(kind, shape):
    tokens = np.array(built(kind, tokens=True)(PIXELS))
    assert tokens.shape == shape and np.isfinite(tokens).all()


def test_bare_pixels_are_the_mean_colours_of_their_fields():
    fields = PIXELS.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(
        built("pixels")(PIXELS), fields.reshape(2, -1), rtol=1e-5
    )


@pytest.mark.parametrize("size_px", [33, 47, 100])
def test_bare_pixels_of_any_size_are_sixteen_a_side(size_px):
    pixels = np.full((1, size_px, size_px, 3), 51, np.uint8)
    result = np.array(built("pixels", size_px=size_px)(pixels))
    np.testing.assert_allclose(result, np.full((1, 768), 0.2), rtol=1e-5)


def test_an_lstm_reads_the_rows_of_the_map_from_top_to_bottom():
    states = built("cnn_lstm", tokens=True)
    before, changed = np.array(states(PIXELS)), PIXELS.copy()
    changed[:, 24:] = 255 - changed[:, 24:]  # the lowest quarter
    after = np.array(states(changed))
    np.testing.assert_allclose(after[:, :5], before[:, :5], rtol=1e-5, atol=1e-6)
    assert not np.allclose(after[:, 7], before[:, 7], atol=1e-4)


def test_a_vit_knows_where_a_patch_lies():
    encoder, pixels = built("vit"), np.full((1, 32, 32, 3), 128, np.uint8)
    left, right = pixels.copy(), pixels.copy()
    left[:, :8, :8] = right[:, :8, 24:] = 255
    assert not np.allclose(encoder(left), encoder(right), atol=1e-6)
