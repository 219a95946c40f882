import io

import numpy as np
from PIL import Image

from mmkeras.modalities import heatmap

GRAY = np.full((64, 48, 3), 128, np.uint8)


def overlaid(effects, scale=None):
    image = Image.open(io.BytesIO(heatmap.overlay(GRAY, np.array(effects), scale)))
    return np.asarray(image).astype(int)


def test_positive_effects_are_orange_and_negative_ones_blue():
    effects = np.zeros((4, 4))
    effects[0, 0], effects[3, 3] = 0.2, -0.2
    pixels = overlaid(effects)
    assert pixels.shape == GRAY.shape
    assert pixels[0, 0, 0] > pixels[0, 0, 2] + 80
    assert pixels[-1, -1, 2] > pixels[-1, -1, 0] + 80
    assert np.ptp(pixels[32, 24]) <= 30  # nearly gray in the middle


def test_small_effects_stay_pale_even_if_they_are_the_largest():
    assert np.ptp(overlaid([[1e-4, -1e-4], [0, 0]]), axis=-1).max() <= 3
    for effects in (np.zeros((2, 2)), np.array([])):
        assert heatmap.scale_of(effects) == heatmap.MIN_SCALE


def test_effects_have_less_colour_on_a_larger_scale():
    strong, weak = (overlaid([[0.1]], scale) for scale in (0.1, 1.0))
    assert np.ptp(strong[0, 0]) > 3 * np.ptp(weak[0, 0]) > 0


def test_weights_that_are_not_negative_have_no_blue():
    weights = np.zeros((8, 8))
    weights[4, 4] = 1.0
    pixels = overlaid(weights)
    assert (pixels[..., 0] >= pixels[..., 2]).all()
