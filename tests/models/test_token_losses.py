import keras
import numpy as np
import pytest

from mmkeras.models.token_losses import (
    TokenAccuracy,
    TokenCrossEntropy,
    TokenLogLoss,
    build_token_metrics,
)

# Rows of three tokens, of one token, and of none.
TOKENS = np.int32([[4, 2, 3, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
LOGITS = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
LOG_P = LOGITS - np.log(np.exp(LOGITS).sum(axis=-1, keepdims=True))
EACH = -np.take_along_axis(LOG_P, TOKENS[..., None], axis=-1)[..., 0]
MEANS = [EACH[0, :3].mean(), EACH[1, 0], 0.0]  # per row


def loss(logits=LOGITS, smoothing=0.0, weights=None):
    return float(TokenCrossEntropy(smoothing)(TOKENS, logits, weights))


def logits_of(tokens):
    return 30 * np.eye(5, dtype="float32")[tokens]


def test_the_loss_is_the_mean_over_a_row_and_then_over_rows():
    assert loss() == pytest.approx(np.mean(MEANS), rel=1e-5)
    rows = TokenCrossEntropy().call(TOKENS, LOGITS)
    np.testing.assert_allclose(rows, MEANS, rtol=1e-5)


def test_weights_are_those_of_rows():
    weights = np.float32([2, 0.5, 3])
    expected = np.mean(weights * MEANS)
    assert loss(weights=weights) == pytest.approx(expected, rel=1e-5)


def test_padding_has_no_effect():
    changed = np.where((TOKENS == 0)[..., None], 7 * LOGITS, LOGITS)
    assert loss(changed) == loss()
    more = TokenCrossEntropy()(
        np.pad(TOKENS, ((0, 0), (0, 2))), np.pad(LOGITS, ((0, 0), (0, 2), (0, 0)))
    )
    assert float(more) == pytest.approx(loss(), rel=1e-6)


def test_the_smoothed_loss_is_that_of_a_smoothed_target():
    target = 0.8 * np.eye(5)[TOKENS] + 0.2 / 5
    each = -(target * LOG_P).sum(axis=-1)
    expected = (each[0, :3].mean() + each[1, 0]) / 3
    assert loss(smoothing=0.2) == pytest.approx(expected, rel=1e-5)


def test_the_truth_costs_nothing_unless_smoothed():
    truth = logits_of(TOKENS)
    assert loss(truth) == pytest.approx(0, abs=1e-5)
    assert loss(truth, smoothing=0.1) > 1
    assert loss(logits_of((TOKENS + 1) % 5)) > 10


def test_a_batch_without_tokens_has_the_loss_zero():
    assert float(TokenCrossEntropy(0.1)(0 * TOKENS, LOGITS)) == 0


def measure(logits, weights=None):
    metrics = build_token_metrics()
    for metric in metrics:
        metric.update_state(TOKENS, logits, weights)
    return {metric.name: float(metric.result()) for metric in metrics}


def test_metrics_are_means_over_tokens():
    assert measure(logits_of(TOKENS)) == {
        "accuracy": 1,
        "log_loss": pytest.approx(0, abs=1e-5),
    }
    half = logits_of(np.where(TOKENS == [4, 0, 3, 0], TOKENS, 1))
    assert measure(half)["accuracy"] == pytest.approx(3 / 4)  # 2 is wrong
    expected = (EACH[0, :3].sum() + EACH[1, 0]) / 4
    assert measure(LOGITS)["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_row_of_weight_zero_does_not_count():
    result = measure(LOGITS, np.float32([0, 1, 1]))
    assert result["log_loss"] == pytest.approx(EACH[1, 0], rel=1e-5)
    row = measure(logits_of(TOKENS * [[0], [1], [1]]), np.float32([0, 1, 1]))
    assert row["accuracy"] == 1


def test_their_variables_exist_before_the_first_step():
    for metric in build_token_metrics():
        assert len(metric.variables) == 2 and float(metric.result()) == 0


@pytest.mark.parametrize("metric", [TokenAccuracy(), TokenLogLoss()])
def test_batches_add_up(metric):
    metric.update_state(TOKENS, LOGITS)
    once = float(metric.result())
    metric.update_state(TOKENS[:2], logits_of(TOKENS[:2]))
    assert float(metric.result()) != once
    metric.reset_state()
    metric.update_state(TOKENS, LOGITS)
    assert float(metric.result()) == once


def test_a_model_trains_with_loss_metrics_and_row_weights():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, keras.layers.Embedding(5, 5, name="e")(inputs))
    model.compile(
        keras.optimizers.Adam(0.1),
        TokenCrossEntropy(0.1),
        weighted_metrics=build_token_metrics(),
    )
    weights = np.float32([1, 1, 0])
    history = model.fit(
        TOKENS, TOKENS, sample_weight=weights, epochs=30, verbose=0, batch_size=3
    )
    assert history.history["accuracy"][-1] == 1
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert history.history["log_loss"][-1] < history.history["log_loss"][0]
