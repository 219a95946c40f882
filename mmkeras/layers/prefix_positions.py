"""Position embedding of sequences up to a length."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="mmkeras")
class PrefixPositions(layers.Layer):
    """Adds a learned vector to each position: (B, L, D) to the same.

    L is at most `max_length` and may differ from call to call. The vectors start with a
    deviation of .02·√D, .2 at a width of 128: less than the tokens of a deviation of 1
    to which they are added, but not so little that places are told apart only late.
    """

    def __init__(self, max_length: int, **kwargs):
        super().__init__(**kwargs)
        self.max_length = max_length

    def build(self, tokens_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.max_length, tokens_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, tokens):
        positions = ops.cast(self.embedding, tokens.dtype)[: ops.shape(tokens)[1]]
        return tokens + positions * tokens.shape[-1] ** 0.5

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "max_length": self.max_length}
