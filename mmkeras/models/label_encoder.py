"""Encoder of a generator's texts to vectors that are aligned with those of branches."""

import keras
from keras import layers, ops

from mmkeras.config import LossConfig
from mmkeras.layers.sequence import TokenPooling
from mmkeras.layers.unit_vector import UnitVector


def build_label_encoder(config: LossConfig, vocab_size: int) -> keras.Model:
    """Returns a model from "tokens" (B, L) int, 0 in padding, to unit vectors.

    The vectors are (B, config.width). Tokens are embedded, encoded one by one and
    averaged; L may differ from call to call. The vector of a row of padding only is
    zeros.

    Example:
        encoder = build_label_encoder(LossConfig(text_image=1.0), vocab_size=50)
    """
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mask = ops.not_equal(tokens, 0)  # (B, L)
    embed = layers.Embedding(vocab_size, config.width, name="label_embedding")
    dense = layers.Dense(2 * config.width, activation="gelu", name="label_dense")
    x = TokenPooling(name="label_pool")(dense(embed(tokens)), mask)
    x = layers.Dense(config.width, name="label_aligned")(x)
    has_token = ops.cast(ops.any(mask, axis=1, keepdims=True), "float32")  # (B, 1)
    x = UnitVector(dtype="float32", name="label_unit")(x, has_token)
    return keras.Model({"tokens": tokens}, x, name="label_encoder")
