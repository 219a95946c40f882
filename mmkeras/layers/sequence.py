"""Layers for token sequences: position embedding, pooling, Transformer block.

In all of them tokens are (B, L, D) float and their mask is (B, L) bool, false in
padding, which comes last.
"""

import keras
from keras import layers, ops

from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.saving import saved_as


@keras.saving.register_keras_serializable(package="mmkeras")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector to each position: (B, L, D) to the same.

    Args:
        max_length: The largest L, which may then differ from call to call; without it
            L is that of the first call.
        scale: Factor of the weights, which start with a deviation of .02. √D adds .2
            to each token at a width of 128, and lets places be told apart early even
            where tokens have a deviation of 1.
    """

    def __init__(self, max_length: int | None = None, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.max_length, self.scale = max_length, scale

    def build(self, shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(self.max_length or shape[1], shape[2]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, tokens):
        positions = ops.cast(self.embedding, tokens.dtype)
        if self.max_length:
            positions = positions[: ops.shape(tokens)[1]]
        return tokens + positions * self.scale

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, self.compute_dtype)

    def get_config(self):
        config = {"max_length": self.max_length, "scale": self.scale}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mmkeras")
class TokenPooling(layers.Layer):
    """Pools tokens and their mask to one vector: (B, L, D), (B, L) to (B, D).

    `how` is mean, max, cls (the first token), last (the last unmasked token) or
    attention: the sum of the tokens h weighted by softmax(w·tanh(W_h h + W_x x + b)),
    x their mean. A row without tokens gives zeros.

    Source: Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473 (additive
    attention), with the mean token instead of the decoder's state.
    """

    def __init__(self, how: str = "mean", **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.supports_masking = True

    def build(self, tokens_shape, valid_shape):
        if self.how != "attention":
            return
        width = tokens_shape[-1]
        for name, shape, start in (
            ("from_token", (width, width), "glorot_uniform"),
            ("from_mean", (width, width), "glorot_uniform"),
            ("bias", (width,), "zeros"),
            ("score", (width, 1), "glorot_uniform"),
        ):
            weight = self.add_weight(name=name, shape=shape, initializer=start)
            setattr(self, name, weight)

    def call(self, tokens, valid):
        mask = ops.cast(valid, tokens.dtype)[..., None]  # (B, L, 1)
        known = ops.where(mask > 0, tokens, ops.zeros_like(tokens))
        if self.how == "max":
            lowest = ops.where(mask > 0, tokens, ops.full_like(tokens, -3e4))
            has_token = ops.max(mask, axis=1)  # (B, 1)
            return ops.max(lowest, axis=1) * has_token
        if self.how == "cls":
            return known[:, 0]
        if self.how == "last":
            following = ops.pad(mask[:, 1:], ((0, 0), (0, 1), (0, 0)))
            return ops.sum(known * mask * (1 - following), axis=1)
        count = ops.maximum(ops.sum(mask, axis=1), 1)  # (B, 1)
        mean = ops.sum(known, axis=1) / count
        return mean if self.how == "mean" else self._attend(known, mask, mean)

    def _attend(self, tokens, mask, mean):
        hidden = ops.matmul(tokens, self.from_token) + self.bias  # (B, L, D)
        hidden = ops.tanh(hidden + ops.matmul(mean, self.from_mean)[:, None])
        score = ops.matmul(hidden, self.score) - 3e4 * (1 - mask)  # (B, L, 1)
        return ops.sum(ops.softmax(score, axis=1) * tokens, axis=1)

    def compute_output_shape(self, tokens_shape, valid_shape):
        return (tokens_shape[0], tokens_shape[-1])

    def compute_mask(self, tokens, previous_mask):
        return None  # a vector has no padding

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@saved_as("AllThere")
class FullMask(layers.Layer):
    """Mask of tokens without padding: (B, L, D) to (B, L) bool, all true."""

    def call(self, tokens):
        return ops.ones(ops.shape(tokens)[:2], "bool")

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape[:2], "bool")


def hide_padding(tokens: keras.KerasTensor, mask: keras.KerasTensor):
    """Returns tokens with zeros in padding, from which `find_padding` has the mask."""
    return ops.where(mask[..., None], tokens, ops.zeros_like(tokens))


def find_padding(tokens: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the mask (B, L) bool of tokens (B, L, D) that are zeros in padding."""
    return ops.any(ops.not_equal(tokens, 0), axis=-1)


def transformer_block(
    tokens: keras.KerasTensor,
    mask: keras.KerasTensor,
    *,
    heads: int,
    dropout: float,
    name: str,
    source: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """Applies attention and a dense part (four times the width), both residual.

    Args:
        tokens: (B, L, D), as the result; D is a multiple of `heads`.
        mask: Mask of the attended tokens: (B, L), or with `source` (B, K).
        name: Prefix of the layers' names.
        source: (B, K, E), the attended tokens; None is `tokens`.

    Source: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, normalised before
    each part as in Xiong et al., 2020, https://arxiv.org/abs/2002.04745.
    """
    width = tokens.shape[-1]
    query = layers.LayerNormalization(name=f"{name}_norm")(tokens)
    if source is None:
        keys = query
    else:
        keys = layers.LayerNormalization(name=f"{name}_source_norm")(source)
    attended = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_mix")(
        query, keys, attention_mask=mask[:, None, :]
    )
    tokens = tokens + Dropout(dropout, name=f"{name}_mix_dropout")(attended)
    x = layers.LayerNormalization(name=f"{name}_dense_norm")(tokens)
    x = layers.Dense(4 * width, activation="gelu", name=f"{name}_wide")(x)
    x = layers.Dense(width, name=f"{name}_narrow")(x)
    return tokens + Dropout(dropout, name=f"{name}_dropout")(x)
