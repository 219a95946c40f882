"""Layer that calibrates the probabilities of a classifier."""

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="mmkeras")
class Temperature(layers.Layer):
    """Division of logits by one number, fitted on validation rows after training.

    Shapes: (B, C) float32 to (B, C).

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """

    def build(self, shape):
        self.temperature = self.add_weight(
            name="temperature", shape=(), initializer="ones", trainable=False
        )

    def call(self, logits):
        return logits / self.temperature
