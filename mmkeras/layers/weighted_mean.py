"""Layer that averages the predictions of several models."""

from collections.abc import Sequence

import keras
from keras import layers, ops

_SMALLEST = 1e-30  # a probability whose logarithm float32 has


@keras.saving.register_keras_serializable(package="mmkeras")
class WeightedMean(layers.Layer):
    """Weighted mean of predictions, as what the activation gives it back from.

    Shapes: (B, M, C) predictions of M models to (B, C): logits of the mean, or with the
    activation linear the mean itself. The weights have the sum 1.
    """

    def __init__(self, shares: Sequence[float], activation: str, **kwargs):
        super().__init__(**kwargs)
        self.shares, self.activation = list(shares), activation

    def call(self, predictions):
        shares = ops.convert_to_tensor(self.shares, predictions.dtype)
        mean = ops.sum(predictions * shares[:, None], axis=1)
        if self.activation == "linear":
            return mean
        logits = ops.log(ops.maximum(mean, _SMALLEST))
        if self.activation == "softmax":
            return logits
        return logits - ops.log(ops.maximum(1 - mean, _SMALLEST))

    def get_config(self):
        settings = {"shares": self.shares, "activation": self.activation}
        return {**super().get_config(), **settings}
