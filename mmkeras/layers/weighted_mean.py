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
        each = ops.cast(predictions, "float32")  # float16 has not the smallest
        shares = ops.convert_to_tensor(self.shares, "float32")
        x = ops.sum(each * shares[:, None], axis=1)
        if self.activation != "linear":
            rest = ops.maximum(1 - x, _SMALLEST)
            x = ops.log(ops.maximum(x, _SMALLEST))
            x = x - ops.log(rest) if self.activation == "sigmoid" else x
        return ops.cast(x, self.compute_dtype)

    def get_config(self):
        settings = {"shares": self.shares, "activation": self.activation}
        return {**super().get_config(), **settings}
