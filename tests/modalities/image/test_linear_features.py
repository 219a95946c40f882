import numpy as np

from mmkeras.modalities.image.linear_features import small_pixels


def test_an_image_becomes_the_mean_colours_of_16_by_16_cells():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    cells = images.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    result = small_pixels(images)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, cells.reshape(2, 768), rtol=1e-5)
