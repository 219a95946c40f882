import numpy as np
import pytest

from mmkeras.layers.prefix_positions import PrefixPositions
from tests.layer_test import run_layer_test

TOKENS = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")


def test_layer():
    settings = {"max_length": 5}
    run_layer_test(
        PrefixPositions, settings, TOKENS, (2, 5, 4), expected_weights=(1, 0)
    )


def test_shorter_sequences_have_the_first_positions():
    layer = PrefixPositions(5)
    full = np.array(layer(TOKENS))
    np.testing.assert_array_equal(layer(TOKENS[:, :3]), full[:, :3])
    added = full - TOKENS
    np.testing.assert_allclose(added[0], added[1], atol=1e-6)
    assert np.abs(added[0, 1:] - added[0, :-1]).max(axis=1).min() > 1e-3


def test_longer_sequences_are_an_error():
    with pytest.raises(Exception, match="5"):
        PrefixPositions(4)(TOKENS)
