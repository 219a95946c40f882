import keras
import numpy as np
import pytest

from mmkeras.modalities.image.histograms import ColourHistogram, OrientedGradients

RNG = np.random.default_rng(0)
NOISE = RNG.uniform(size=(32, 32, 3)).astype("float32")


def colours(image, bins=4):
    (result,) = np.array(ColourHistogram(bins)(image[None]))
    return result


def edges(image, cells=4, bins=9):
    (result,) = np.array(OrientedGradients(cells, bins)(image[None]))
    return result.reshape(cells, cells, bins)


def plain(*rgb):
    return np.broadcast_to(np.float32(rgb), (32, 32, 3)).copy()


def step(axis):
    """Dark on one side of the middle, bright on the other."""
    image = np.zeros((32, 32, 3), "float32")
    image[(slice(None),) * axis + (slice(14, None),)] = 1
    return image


@pytest.mark.parametrize(
    ("rgb", "place"),
    [((1, 0, 0), (3, 0, 0)), ((0, 1, 0), (0, 3, 0)), ((0, 0, 1), (0, 0, 3))],
)
def test_a_picture_of_one_colour_fills_the_bin_of_that_colour(rgb, place):
    histogram = colours(plain(*rgb)).reshape(4, 4, 4)
    assert histogram[place] == pytest.approx(1, abs=1e-3)
    assert histogram.sum() - histogram[place] == pytest.approx(63 * 0.01, abs=1e-3)


def test_every_pixel_counts_once():
    assert (colours(NOISE) ** 2 - 1e-4).sum() == pytest.approx(1, abs=1e-4)


def test_a_colour_between_two_bins_is_shared():
    histogram = colours(plain(0.5, 0, 0)).reshape(4, 4, 4) ** 2
    np.testing.assert_allclose(histogram[1:3, 0, 0], 0.5, atol=1e-3)


def test_a_small_change_of_colour_is_a_small_change_of_the_histogram():
    before, after = colours(NOISE), colours(np.clip(NOISE + 0.004, 0, 1))
    assert np.abs(before - after).max() < 0.01


def test_where_a_colour_stands_does_not_matter():
    shuffled = RNG.permutation(NOISE.reshape(-1, 3)).reshape(NOISE.shape)
    np.testing.assert_allclose(colours(shuffled), colours(NOISE), atol=1e-5)


def test_a_flat_picture_has_no_edges():
    np.testing.assert_allclose(edges(plain(0.3, 0.6, 0.9)), 0, atol=1e-3)


def test_a_vertical_edge_lights_the_bin_of_horizontal_gradients():
    lit = edges(step(axis=1))
    assert (lit[:, 1, 0] > 0.9).all()  # the column of cells that holds the edge
    lit[:, 1, 0] = 0
    np.testing.assert_allclose(lit, 0, atol=1e-3)


def test_a_horizontal_edge_lights_the_bins_of_vertical_gradients():
    lit = edges(step(axis=0))
    # Half a turn between nine bins falls between the fourth and the fifth.
    np.testing.assert_allclose(lit[1, :, 4], lit[1, :, 5])
    assert (lit[1, :, 4] > 0.6).all()
    lit[1, :, 4:6] = 0
    np.testing.assert_allclose(lit, 0, atol=1e-3)


def test_light_and_dark_sides_may_change_places():
    np.testing.assert_allclose(edges(1 - NOISE), edges(NOISE), atol=1e-4)


def test_brightness_does_not_matter():
    np.testing.assert_allclose(edges(NOISE / 2 + 0.5), edges(NOISE / 2), atol=1e-4)


def test_contrast_matters_little_where_edges_are_strong():
    np.testing.assert_allclose(edges(NOISE / 2), edges(NOISE), atol=0.05)


def test_a_picture_turned_over_has_its_cells_turned_over():
    np.testing.assert_allclose(
        edges(NOISE[::-1, ::-1]), edges(NOISE)[::-1, ::-1], atol=1e-4
    )


def test_no_cell_is_longer_than_one():
    assert (np.linalg.norm(edges(NOISE), axis=-1) <= 1).all()


def test_a_side_that_cells_do_not_divide_is_cut():
    assert edges(NOISE[:30, :30]).shape == (4, 4, 9)


@pytest.mark.parametrize(
    "layer", [ColourHistogram(bins=3), OrientedGradients(2, 6, 0.5)]
)
def test_a_layer_is_rebuilt_from_its_config(layer):
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(NOISE[None]), layer(NOISE[None]))
    shape = layer.compute_output_shape((5, 32, 32, 3))
    assert (1, *shape[1:]) == tuple(layer(NOISE[None]).shape)


def test_the_arithmetic_stays_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layers = [ColourHistogram(), OrientedGradients()]
    finally:
        keras.config.set_dtype_policy("float32")
    for layer in layers:
        assert keras.backend.standardize_dtype(layer(NOISE[None]).dtype) == "float32"
