"""Tokens of image encoders as places."""

import numpy as np
import pytest

from mmkeras.modalities.image.places import arrange_places


def test_a_map_is_row_by_row():
    grid = arrange_places("vit", np.arange(9))
    assert grid.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_class_token_before_the_map_is_left_out():
    grid = arrange_places("kerashub_vit", np.arange(5))
    assert grid.tolist() == [[1, 2], [3, 4]]


def test_the_states_of_an_lstm_are_rows():
    assert arrange_places("cnn_lstm", np.arange(16)).shape == (16, 1)


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 12])
def test_tokens_that_are_no_square_are_no_places(tokens):
    assert arrange_places("kerashub", np.ones(tokens)) is None
