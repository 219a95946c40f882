"""Loss and metrics of predicted tokens, from logits; padding does not count."""

import keras
from keras import ops


def _token_log_loss(tokens, logits):
    """Returns -log p of each token and the log normaliser: two (B, L)."""
    total = ops.logsumexp(logits, axis=-1)
    index = ops.expand_dims(tokens, -1)
    return total - ops.take_along_axis(logits, index, axis=-1)[..., 0], total


def _token_weights(tokens, sample_weight, dtype):
    """Returns 1, or the row's weight, for each token and 0 for padding: (B, L)."""
    weights = ops.cast(ops.not_equal(tokens, 0), dtype)
    if sample_weight is None:
        return weights
    return weights * ops.reshape(ops.cast(sample_weight, dtype), (-1, 1))


class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy per row: the mean over its tokens, so that texts count equally.

    Takes (B, L) int tokens, 0 in padding, and (B, L, V) logits. A row without tokens
    has the loss 0. Label smoothing gives its share equally to all V tokens.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__(name="token_cross_entropy")
        self.smoothing = label_smoothing

    def call(self, y_true, y_pred):
        tokens = ops.cast(y_true, "int32")  # Keras casts them to float
        each, total = _token_log_loss(tokens, y_pred)
        uniform = total - ops.mean(y_pred, axis=-1)
        each = (1 - self.smoothing) * each + self.smoothing * uniform
        weights = _token_weights(tokens, None, each.dtype)
        count = ops.maximum(ops.sum(weights, axis=-1), 1)
        return ops.sum(each * weights, axis=-1) / count


class TokenAccuracy(keras.metrics.Mean):
    """Share of the tokens (B, L) that have the highest of their logits (B, L, V)."""

    def __init__(self, name: str = "accuracy"):
        super().__init__(name=name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        tokens = ops.cast(y_true, "int32")
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        is_right = ops.cast(ops.equal(tokens, predicted), self.dtype)
        weights = _token_weights(tokens, sample_weight, self.dtype)
        return super().update_state(is_right, weights)


class TokenLogLoss(keras.metrics.Mean):
    """Mean cross-entropy per token, without label smoothing; e^x is the perplexity."""

    def __init__(self, name: str = "log_loss"):
        super().__init__(name=name)

    def update_state(self, y_true, y_pred, sample_weight=None):
        tokens = ops.cast(y_true, "int32")
        each, _ = _token_log_loss(tokens, y_pred)
        weights = _token_weights(tokens, sample_weight, self.dtype)
        return super().update_state(each, weights)


def build_token_metrics() -> list[keras.metrics.Metric]:
    """Returns "accuracy" and "log_loss" of tokens, with their variables."""
    return [TokenAccuracy(), TokenLogLoss()]
