import keras
import numpy as np
import pytest

from mmkeras.modalities.image.scaling import scale_pixels

RED = np.array([[[[255, 0, 51]]]], np.uint8)
RANGES = {
    "0..255": [255, 0, 51],
    "0..1": [1, 0, 0.2],
    "-1..1": [1, -1, -0.6],
    "imagenet": [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225],
    "imagenet_bgr": [51 - 103.939, -116.779, 255 - 123.68],
}


@pytest.mark.parametrize("scale", RANGES)
def test_pixels_get_the_range_that_a_network_takes(scale):
    scaled = np.array(scale_pixels(RED, scale))
    np.testing.assert_allclose(scaled[0, 0, 0], RANGES[scale], rtol=1e-5, atol=1e-6)
    assert scaled.dtype == np.float32


@pytest.mark.parametrize("scale", RANGES)
def test_the_same_in_a_saved_model(scale, tmp_path):
    pixels = keras.Input((1, 1, 3), dtype="uint8")
    model = keras.Model(pixels, scale_pixels(pixels, scale))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    result = np.array(loaded(RED))[0, 0, 0]
    np.testing.assert_allclose(result, RANGES[scale], rtol=1e-5, atol=1e-6)
