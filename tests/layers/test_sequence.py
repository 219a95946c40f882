import keras
import numpy as np
import pytest

from mmkeras.layers.sequence import (
    FullMask,
    PositionEmbedding,
    TokenPooling,
    transformer_block,
)
from tests.layer_test import run_layer_test

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(3, 4, 5)).astype("float32")
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize("how", ["mean", "max", "last", "attention"])
def test_token_pooling(how):
    weights = (4 if how == "attention" else 0, 0)
    inputs = (TOKENS, MASK)
    run_layer_test(TokenPooling, {"how": how}, inputs, (3, 5), expected_weights=weights)


def test_layers():
    for settings in ({}, {"max_length": 6, "scale": 2.0}):
        run_layer_test(
            PositionEmbedding, settings, TOKENS, (3, 4, 5), expected_weights=(1, 0)
        )
    dtypes = {"expected_dtype": "bool", "mixed_dtype": "bool"}
    run_layer_test(FullMask, {}, TOKENS, (3, 4), **dtypes)


@pytest.mark.parametrize("how", ["mean", "max", "last"])
def test_tokens_become_what_the_pooling_is_named_after(how):
    pooled = np.array(TokenPooling(how)(TOKENS, MASK))
    pool = {"mean": np.mean, "max": np.max, "last": lambda x, axis: x[-1]}[how]
    np.testing.assert_allclose(pooled[0], pool(TOKENS[0], axis=0), rtol=1e-5)
    np.testing.assert_allclose(pooled[1], pool(TOKENS[1, :2], axis=0), rtol=1e-5)


def test_additive_attention_is_its_formula():
    layer = TokenPooling("attention")
    layer(TOKENS, MASK)
    from_token, from_mean, bias, score = (
        RNG.normal(size=w.shape).astype("float32") for w in layer.weights
    )
    layer.set_weights([from_token, from_mean, bias, score])

    pooled = np.array(layer(TOKENS, MASK))

    for row, count in ((0, 4), (1, 2)):
        h = TOKENS[row, :count]
        e = np.tanh(h @ from_token + h.mean(axis=0) @ from_mean + bias) @ score
        weight = np.exp(e) / np.exp(e).sum()
        np.testing.assert_allclose(pooled[row], (weight * h).sum(axis=0), rtol=1e-4)


@pytest.mark.parametrize("how", ["mean", "max", "last", "attention"])
def test_padding_has_no_effect_and_a_row_without_tokens_gives_zeros(how):
    layer = TokenPooling(how)
    before = np.array(layer(TOKENS, MASK))
    changed = np.where(MASK[..., None], TOKENS, np.nan).astype("float32")
    np.testing.assert_array_equal(layer(changed, MASK), before)
    np.testing.assert_array_equal(before[2], np.zeros(5))


def test_a_vector_of_masked_tokens_has_no_mask():
    x = keras.layers.Masking()(keras.Input((4, 5)))  # as of an LSTM with a mask
    pooled = TokenPooling()(x, keras.Input((4,), dtype="bool"))
    assert getattr(pooled, "_keras_mask", None) is None


def test_positions_differ_in_the_same_way_in_each_row():
    positions = np.array(PositionEmbedding()(np.ones((2, 4, 5), "float32")))
    np.testing.assert_array_equal(positions[0], positions[1])
    assert len(np.unique(positions[0, :, 0])) == 4


def test_shorter_sequences_have_the_first_positions_times_the_scale():
    layer = PositionEmbedding(max_length=5, scale=3)
    added = np.array(layer(TOKENS)) - TOKENS
    np.testing.assert_allclose(added[0], 3 * layer.embedding[:4], atol=1e-6)
    shorter = np.array(layer(TOKENS[:, :2]))
    np.testing.assert_allclose(shorter, TOKENS[:, :2] + added[:, :2], atol=1e-6)


def test_sequences_beyond_the_last_position_are_an_error():
    with pytest.raises(Exception, match="ncompatible shapes|broadcast"):
        PositionEmbedding(max_length=3)(TOKENS)


def test_the_mask_of_tokens_without_padding_is_true():
    assert np.array(FullMask()(TOKENS)).all()


@pytest.mark.parametrize("with_source", [False, True])
def test_a_block_attends_to_unmasked_tokens_only(with_source):
    keras.utils.set_random_seed(1)
    tokens = keras.Input((4, 8))
    source = keras.Input((6, 3)) if with_source else None
    mask = keras.Input((6 if with_source else 4,), dtype="bool")
    out = transformer_block(
        tokens, mask, heads=2, dropout=0.0, name="block", source=source
    )
    model = keras.Model([x for x in (tokens, source, mask) if x is not None], out)
    query = RNG.normal(size=(2, 4, 8)).astype("float32")
    before = RNG.normal(size=(2, 6, 3)).astype("float32") if with_source else query
    valid = np.ones((2, mask.shape[1]), bool)
    valid[:, -1] = False

    def result(content):
        inputs = [query, content, valid] if with_source else [content, valid]
        return np.array(model(inputs))[:, :3]

    masked, unmasked = before.copy(), before.copy()
    masked[:, -1] += 5
    unmasked[:, 0] += np.arange(before.shape[2])  # more than the norm takes away
    np.testing.assert_allclose(result(masked), result(before), rtol=1e-5, atol=1e-6)
    difference = np.abs(result(unmasked) - result(before))[:, 1:]
    assert difference.max() > 1e-4
