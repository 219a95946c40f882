import numpy as np
import pytest

from mmkeras.models.fusion.missing_modality import (
    MissingEmbedding,
    MissingToken,
    ModalityDropout,
    Passthrough,
    ZeroMissing,
)
from tests.layer_test import run_layer_test

VECTOR, PRESENT = np.ones((2, 3), "float32"), np.float32([[1], [0]])
TOKENS, MASK = np.ones((2, 3, 2), "float32"), np.ones((2, 3), bool)
ONE_WEIGHT = {"expected_weights": (1, 0)}


def test_layers():
    run_layer_test(ModalityDropout, {"rate": 0.25, "seed": 3}, VECTOR, (2, 3))
    run_layer_test(MissingEmbedding, {}, (VECTOR, PRESENT), (2, 3), **ONE_WEIGHT)
    run_layer_test(ZeroMissing, {}, (VECTOR, PRESENT), (2, 3))
    run_layer_test(Passthrough, {}, (VECTOR, PRESENT), (2, 3))
    dtypes = {"expected_dtype": ("float32", "bool"), "mixed_dtype": ("float16", "bool")}
    inputs, shapes = (TOKENS, MASK, PRESENT), ((2, 3, 2), (2, 3))
    run_layer_test(MissingToken, {}, inputs, shapes, **dtypes, **ONE_WEIGHT)


def test_a_learned_vector_replaces_an_absent_branch():
    layer = MissingEmbedding()
    layer(VECTOR, PRESENT)
    layer.embedding.assign([5.0, 6.0, 7.0])
    np.testing.assert_array_equal(layer(VECTOR, PRESENT), [[1, 1, 1], [5, 6, 7]])


def test_an_absent_row_has_one_learned_token():
    layer, mask = MissingToken(), MASK.copy()
    mask[0, 2] = False
    layer(TOKENS, mask, PRESENT)
    layer.embedding.assign([5.0, 6.0])

    tokens, mask = layer(TOKENS, mask, PRESENT)

    np.testing.assert_array_equal(tokens[0], np.ones((3, 2)))
    np.testing.assert_array_equal(tokens[1][0], [5, 6])
    np.testing.assert_array_equal(mask, [[True, True, False], [True, False, False]])


def dropped(present, rate=0.3, training=True):
    layer = ModalityDropout(rate, seed=1)
    return np.array(layer(np.float32(present), training=training))


def test_nothing_is_hidden_when_serving():
    present = np.random.default_rng(0).integers(0, 2, (50, 3))
    np.testing.assert_array_equal(dropped(present, training=False), present)
    np.testing.assert_array_equal(dropped(present, rate=0), present)


@pytest.mark.parametrize("rate", [0.3, 0.99])
def test_the_last_modality_of_a_row_is_never_hidden(rate):
    present = np.random.default_rng(0).integers(0, 2, (500, 3))
    result = dropped(present, rate)
    assert (result.any(axis=1) == present.any(axis=1)).all()
    assert (result <= present).all()


def test_modalities_are_hidden_independently_at_the_rate():
    result = dropped(np.ones((20_000, 3)))
    # All three at once would be hidden 2.7 % of the time, and those rows keep all.
    np.testing.assert_allclose(1 - result.mean(axis=0), 0.3 - 0.027, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(result.T)[0, 1], 0, atol=0.1)
