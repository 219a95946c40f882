import keras
import numpy as np
import pytest

from mmkeras.layers.sequence import (
    FullMask,
    PositionEmbedding,
    TokenPooling,
    transformer_block,
)

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(3, 4, 5)).astype("float32")
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)


@pytest.mark.parametrize("how", ["mean", "max", "last"])
def test_tokens_become_what_the_pooling_is_named_after(how):
    pooled = np.array(TokenPooling(how)(TOKENS, MASK))
    of = {"mean": np.mean, "max": np.max, "last": lambda x, axis: x[-1]}[how]
    np.testing.assert_allclose(pooled[0], of(TOKENS[0], axis=0), rtol=1e-5)
    np.testing.assert_allclose(pooled[1], of(TOKENS[1, :2], axis=0), rtol=1e-5)


def test_additive_attention_is_its_formula():
    pool = TokenPooling("attention")
    pool(TOKENS, MASK)
    from_token, from_mean, bias, score = (
        RNG.normal(size=w.shape).astype("float32") for w in pool.weights
    )
    pool.set_weights([from_token, from_mean, bias, score])

    pooled = np.array(pool(TOKENS, MASK))

    for row, count in ((0, 4), (1, 2)):
        h = TOKENS[row, :count]
        e = np.tanh(h @ from_token + h.mean(axis=0) @ from_mean + bias) @ score
        weight = np.exp(e) / np.exp(e).sum()
        np.testing.assert_allclose(pooled[row], (weight * h).sum(axis=0), rtol=1e-4)


@pytest.mark.parametrize("how", ["mean", "max", "last", "attention"])
def test_padding_says_nothing_and_a_row_without_tokens_gives_zeros(how):
    pool = TokenPooling(how)
    before = np.array(pool(TOKENS, MASK))
    changed = np.where(MASK[..., None], TOKENS, np.nan).astype("float32")
    np.testing.assert_array_equal(pool(changed, MASK), before)
    np.testing.assert_array_equal(before[2], np.zeros(5))


def test_a_vector_of_masked_tokens_has_no_mask():
    x = keras.layers.Masking()(keras.Input((4, 5)))  # as of an LSTM with a mask
    pooled = TokenPooling()(x, keras.Input((4,), dtype="bool"))
    assert getattr(pooled, "_keras_mask", None) is None


def test_a_layer_is_rebuilt_from_its_config():
    again = TokenPooling.from_config(TokenPooling("max", name="p").get_config())
    assert (again.how, again.name) == ("max", "p")


def test_places_are_told_apart():
    same = np.ones((2, 4, 5), "float32")
    placed = np.array(PositionEmbedding()(same))
    np.testing.assert_array_equal(placed[0], placed[1])
    assert len(np.unique(placed[0, :, 0])) == 4


def test_without_padding_all_is_there():
    there = np.array(FullMask()(TOKENS))
    assert there.shape == (3, 4) and there.all()


@pytest.mark.parametrize("with_source", [False, True])
def test_a_block_attends_to_what_is_there_only(with_source):
    keras.utils.set_random_seed(1)
    tokens = keras.Input((4, 8))
    source = keras.Input((6, 3)) if with_source else None
    mask = keras.Input((6 if with_source else 4,), dtype="bool")
    out = transformer_block(
        tokens, mask, heads=2, dropout=0.0, name="block", source=source
    )
    read = tokens if source is None else source
    model = keras.Model([x for x in (tokens, source, mask) if x is not None], out)
    own = RNG.normal(size=(2, 4, 8)).astype("float32")
    other = RNG.normal(size=(2, *read.shape[1:])).astype("float32")
    there = np.ones((2, mask.shape[1]), bool)
    there[:, -1] = False

    def answer(content):
        inputs = [own, content, there] if with_source else [content, there]
        return np.array(model(inputs))[:, :3]

    content = other if with_source else own
    before = answer(content)
    hidden, seen = content.copy(), content.copy()
    hidden[:, -1] += 5
    seen[:, 0] += np.arange(seen.shape[2])  # more than the norm takes away
    np.testing.assert_allclose(answer(hidden), before, rtol=1e-5, atol=1e-6)
    assert not np.allclose(answer(seen)[:, 1:], before[:, 1:], atol=1e-4)
