import keras
import numpy as np
import pytest

from mmkeras.layers.scheduled_sampling import ScheduledSampling
from tests.layer_test import run_layer_test

RNG = np.random.default_rng(0)
TOKENS = np.int32([[2, 5, 4, 6, 0, 0], [2, 6, 6, 5, 4, 5]])
LOGITS = RNG.normal(size=(2, 6, 8)).astype("float32")
PREDICTED = LOGITS[:, :, 1:].argmax(axis=-1) + 1


def run(layer, tokens=TOKENS, logits=LOGITS, training=True):
    return np.array(layer(tokens, logits, training=training))


def test_layer():
    run_layer_test(
        ScheduledSampling,
        {"probability": 0.5, "seed": 1},
        (TOKENS, LOGITS),
        TOKENS.shape,
        expected_dtype="int32",
        mixed_dtype="int32",
    )


def test_each_token_but_the_first_becomes_the_prediction_before_it():
    result = run(ScheduledSampling(1.0))
    np.testing.assert_array_equal(result[:, 0], TOKENS[:, 0])
    np.testing.assert_array_equal(result[1, 1:], PREDICTED[1, :-1])
    np.testing.assert_array_equal(result[0, 1:4], PREDICTED[0, :3])


def test_padding_stays_and_is_never_predicted():
    logits = LOGITS.copy()
    logits[..., 0] = 9
    result = run(ScheduledSampling(1.0), logits=logits)
    np.testing.assert_array_equal(result == 0, TOKENS == 0)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_outside_of_training_it_is_the_identity(probability):
    layer = ScheduledSampling(probability)
    np.testing.assert_array_equal(run(layer, training=False), TOKENS)
    np.testing.assert_array_equal(layer(TOKENS, LOGITS), TOKENS)
    np.testing.assert_array_equal(run(ScheduledSampling(0.0)), TOKENS)


def test_the_share_of_replaced_tokens_is_the_probability():
    tokens = np.full((100, 101), 5, np.int32)
    logits = np.zeros((100, 101, 8), np.float32)
    logits[..., 6] = 1
    replaced = run(ScheduledSampling(0.3, seed=1), tokens, logits) == 6
    assert replaced[:, 1:].mean() == pytest.approx(0.3, abs=0.03)
    assert replaced.mean(axis=0)[1:].max() < 0.5  # not whole columns
    assert replaced.mean(axis=1).max() < 0.5


def test_a_reset_generator_repeats_the_replacements():
    layer = ScheduledSampling(0.5)
    tokens, logits = np.tile(TOKENS, (9, 1)), np.tile(LOGITS, (9, 1, 1))
    results = []
    for _ in range(2):
        layer.seed_generator.state.assign([3, 0])
        results += [run(layer, tokens, logits), run(layer, tokens, logits)]
    np.testing.assert_array_equal(results[0], results[2])
    assert (results[0] != results[1]).any()


def test_replicas_replace_the_tokens_of_one_device():
    tokens, logits = np.tile(TOKENS, (4, 1)), np.tile(LOGITS, (4, 1, 1))
    expected = run(ScheduledSampling(0.5, seed=1), tokens, logits)
    halves = []
    for index in range(2):
        layer = ScheduledSampling(0.5, seed=1)
        layer.replica = lambda index=index: (index, 2)
        half = slice(4 * index, 4 * index + 4)
        halves.append(run(layer, tokens[half], logits[half]))
    np.testing.assert_array_equal(np.concatenate(halves), expected)


def test_it_is_saved_and_loaded(tmp_path):
    inputs = [keras.Input((None,), dtype="int32"), keras.Input((None, 8))]
    outputs = ScheduledSampling(0.25, seed=4, name="mix")(*inputs)
    keras.Model(inputs, outputs).save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras").get_layer("mix")
    assert (loaded.probability, loaded.seed) == (0.25, 4)
