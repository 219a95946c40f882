import numpy as np
import pytest

from mmkeras.modalities.image.histograms import ColourHistogram, OrientedGradients
from tests.layer_test import run_layer_test

RNG = np.random.default_rng(0)
NOISE = RNG.uniform(size=(32, 32, 3)).astype("float32")


def colors(image):
    (result,) = np.array(ColourHistogram()(image[None]))
    return result


def edges(image):
    (result,) = np.array(OrientedGradients()(image[None]))
    return result.reshape(4, 4, 9)


def plain(*rgb):
    return np.full((32, 32, 3), rgb, "float32")


def step(axis):
    """Dark on one side of the middle, bright on the other."""
    image = np.zeros((32, 32, 3), "float32")
    image[(slice(None),) * axis + (slice(14, None),)] = 1
    return image


@pytest.mark.parametrize("channel", range(3))
def test_an_image_of_one_color_fills_the_bin_of_that_color(channel):
    unit = np.eye(3, dtype=int)[channel]
    histogram = colors(plain(*unit)).reshape(4, 4, 4)
    index = tuple(3 * unit)
    assert histogram[index] == pytest.approx(1, abs=1e-3)
    assert histogram.sum() - histogram[index] == pytest.approx(63 * 0.01, abs=1e-3)


def test_every_pixel_counts_once():
    assert (colors(NOISE) ** 2 - 1e-4).sum() == pytest.approx(1, abs=1e-4)


def test_a_color_between_two_bins_is_shared():
    histogram = colors(plain(0.5, 0, 0)).reshape(4, 4, 4) ** 2
    np.testing.assert_allclose(histogram[1:3, 0, 0], 0.5, atol=1e-3)


def test_a_small_change_of_color_is_a_small_change_of_the_histogram():
    changed = colors(np.clip(NOISE + 0.004, 0, 1))
    assert np.abs(colors(NOISE) - changed).max() < 0.01


def test_the_position_of_a_color_does_not_matter():
    shuffled = RNG.permutation(NOISE.reshape(-1, 3)).reshape(NOISE.shape)
    np.testing.assert_allclose(colors(shuffled), colors(NOISE), atol=1e-5)


def test_a_flat_image_has_no_edges():
    np.testing.assert_allclose(edges(plain(0.3, 0.6, 0.9)), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("axis", "bins", "level"),
    # A quarter turn falls between the fifth and the sixth of nine bins.
    [(1, [0], 0.9), (0, [4, 5], 0.6)],
)
def test_an_edge_lights_the_bins_of_its_direction(axis, bins, level):
    lit = np.moveaxis(edges(step(axis)), axis, 0)
    assert (lit[1][:, bins] > level).all()  # the row or column of cells with the edge
    np.testing.assert_allclose(lit[1][:, bins[0]], lit[1][:, bins[-1]])
    lit[1][:, bins] = 0
    np.testing.assert_allclose(lit, 0, atol=1e-3)


@pytest.mark.parametrize(
    ("image", "expected", "tolerance"),
    [
        (1 - NOISE, edges(NOISE), 1e-4),  # light and dark sides swapped
        (NOISE / 2 + 0.5, edges(NOISE / 2), 1e-4),  # brightness
        (NOISE / 2, edges(NOISE), 0.05),  # contrast of strong edges
        (NOISE[::-1, ::-1], edges(NOISE)[::-1, ::-1], 1e-4),  # upside down
    ],
)
def test_edges_do_not_depend_on_light(image, expected, tolerance):
    np.testing.assert_allclose(edges(image), expected, atol=tolerance)


def test_no_cell_is_longer_than_one():
    assert (np.linalg.norm(edges(NOISE), axis=-1) <= 1).all()


def test_a_side_that_cells_do_not_divide_is_cut():
    assert edges(NOISE[:30, :30]).shape == (4, 4, 9)


def test_layers_compute_in_float32_under_mixed_precision():
    batch = NOISE[None]
    run_layer_test(ColourHistogram, {"bins": 3}, batch, (1, 27), mixed_dtype="float32")
    gradients = {"cells": 2, "bins": 6, "floor": 0.5}
    run_layer_test(OrientedGradients, gradients, batch, (1, 24), mixed_dtype="float32")
