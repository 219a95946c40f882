"""Token embedding whose matrix also gives the logits of tokens."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="mmkeras")
class TiedEmbedding(layers.Layer):
    """Embedding of tokens, and logits of tokens by the same matrix.

    Shapes: (B, L) int to (B, L, width), scaled by √width; with `reverse` (B, L, width)
    to logits (B, L, vocab_size), float32 under each policy, with a bias.

    The matrix starts with a deviation of 1/√width, an embedded token with one of 1, as
    normalized memory has. Decoders then start with high logits of the token that they
    read, which they unlearn in the first steps; with the .02 of GPT-2 instead,
    questions about images, whose answer needs two branches at once, were learned much
    later (`benchmarks.scene_questions` measures them).

    Source: Press and Wolf, 2017, https://arxiv.org/abs/1608.05859. The scale is that of
    Vaswani et al., 2017, https://arxiv.org/abs/1706.03762.

    Example:
        embedding = TiedEmbedding(5000, 128)
        logits = embedding(decode(embedding(tokens)), reverse=True)
    """

    def __init__(self, vocab_size: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size, self.width = vocab_size, width

    def build(self, inputs_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.vocab_size, self.width),
            initializer=keras.initializers.RandomNormal(stddev=self.width**-0.5),
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.vocab_size,), initializer="zeros"
        )

    def call(self, inputs, reverse=False):
        if not reverse:
            return ops.take(self.embedding, inputs, axis=0) * self.width**0.5
        logits = ops.matmul(inputs, ops.transpose(self.embedding))
        return ops.cast(logits, "float32") + ops.cast(self.bias, "float32")

    def compute_output_spec(self, inputs, reverse=False):
        if reverse:
            shape = (*inputs.shape[:-1], self.vocab_size)
            return keras.KerasTensor(shape, "float32")
        return keras.KerasTensor((*inputs.shape, self.width), self.compute_dtype)

    def get_config(self):
        config = {"vocab_size": self.vocab_size, "width": self.width}
        return {**super().get_config(), **config}
