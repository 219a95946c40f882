import keras
import numpy as np
import pytest

from mmkeras.layers.attention_lstm import AttentionLSTM
from tests.layer_test import run_layer_test

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(3, 5, 4)).astype("float32")
MEMORY = RNG.normal(size=(3, 6, 3)).astype("float32")
MASK = np.array([[1] * 6, [1, 1, 0, 0, 0, 0], [0] * 6], bool)
SUMMARY = RNG.normal(size=(3, 2)).astype("float32")
UNITS = 7


@pytest.fixture
def layer():
    keras.utils.set_random_seed(1)
    layer = AttentionLSTM(UNITS)
    layer(TOKENS, MEMORY, MASK, SUMMARY)
    for weight in layer.weights:  # no zeros
        weight.assign(RNG.normal(size=weight.shape) / 2)
    return layer


def run(layer, tokens=TOKENS, memory=MEMORY, mask=MASK, summary=SUMMARY):
    return [np.array(x) for x in layer(tokens, memory, mask, summary)]


def test_layer():
    for dropout in (0.0, 0.2):
        run_layer_test(
            AttentionLSTM,
            {"units": UNITS, "dropout": dropout},
            (TOKENS, MEMORY, MASK, SUMMARY),
            ((3, 5, UNITS + 3), (3, 5, 6)),
            expected_dtype=("float32", "float32"),
            expected_weights=(12, 0),
            mixed_dtype=("float16", "float16"),
        )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_it_is_its_formula(layer):
    w = {weight.name: weight.numpy() for weight in layer.weights}
    outputs, attention = run(layer)
    for row, count in ((0, 6), (1, 2)):
        m = MEMORY[row, :count]
        h, c = np.split(np.tanh(SUMMARY[row] @ w["start"] + w["start_bias"]), 2)
        for t in range(TOKENS.shape[1]):
            state = h @ w["attend_state"] + w["attend_bias"]
            e = np.tanh(m @ w["attend_memory"] + state) @ w["score"][:, 0]
            share = np.exp(e) / np.exp(e).sum()
            z = share @ m * sigmoid(h @ w["gate"] + w["gate_bias"])
            x = TOKENS[row, t] @ w["kernel"] + z @ w["context_kernel"]
            write, keep, cell, read = np.split(
                x + h @ w["recurrent_kernel"] + w["bias"], 4
            )
            c = sigmoid(keep) * c + sigmoid(write) * np.tanh(cell)
            h = sigmoid(read) * np.tanh(c)
            np.testing.assert_allclose(outputs[row, t], [*h, *z], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(attention[row, t, :count], share, rtol=1e-4)


def test_attention_sums_to_one_over_the_unmasked_memory(layer):
    outputs, attention = run(layer)
    np.testing.assert_allclose(attention[:2].sum(axis=-1), 1, rtol=1e-5)
    assert not attention[~np.broadcast_to(MASK[:, None], attention.shape)].any()
    assert np.isfinite(outputs).all() and not outputs[2, :, UNITS:].any()


def test_masked_memory_has_no_effect_not_even_a_nan(layer):
    changed = np.where(MASK[..., None], MEMORY, np.nan).astype("float32")
    for x, y in zip(run(layer), run(layer, memory=changed), strict=True):
        np.testing.assert_array_equal(x, y)
    visible = MEMORY + 1
    assert np.abs(run(layer, memory=visible)[0] - run(layer)[0])[:2].min() > 0


def test_a_later_token_has_no_effect_on_earlier_steps(layer):
    changed = TOKENS.copy()
    changed[:, 3] += 1
    for x, y in zip(run(layer), run(layer, tokens=changed), strict=True):
        np.testing.assert_array_equal(x[:, :3], y[:, :3])
    assert np.abs(run(layer)[0] - run(layer, tokens=changed)[0])[:, 3].max() > 1e-3


def test_the_forget_gate_starts_open():
    layer = AttentionLSTM(2)
    layer.build((None, None, 3), (None, None, 3), (None, None), (None, 4))
    bias = next(weight for weight in layer.weights if weight.name == "bias")
    np.testing.assert_array_equal(bias.numpy(), [0, 0, 1, 1, 0, 0, 0, 0])


def test_lengths_of_tokens_and_of_the_memory_may_be_unknown(layer):
    shapes = ((None, 4), (None, 3), (None,), (2,))
    dtypes = ("float32", "float32", "bool", "float32")
    inputs = [keras.Input(s, dtype=d) for s, d in zip(shapes, dtypes, strict=True)]
    outputs, attention = layer(*inputs)
    assert outputs.shape == (None, None, UNITS + 3)
    assert attention.shape == (None, None, None)
    model = keras.Model(inputs, [outputs, attention])
    short = [TOKENS[:, :2], MEMORY, MASK, SUMMARY]
    results = [run(layer)[0][:, :2], run(layer)[1][:, :2]]
    for x, y in zip(model.predict(short, verbose=0), results, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
