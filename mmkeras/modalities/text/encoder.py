"""The text branch: a dense layer for vectors, or a sequence encoder for tokens."""

import keras
from keras import layers, ops

from mmkeras.config import TextConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import PositionEmbedding, TokenPooling, transformer_block
from mmkeras.modalities.kerashub import bert


def build_text_encoder(
    config: TextConfig,
    width: int,
    vocabulary_size: int = 0,
    tokens: bool = False,
    name: str = "text_encoder",
) -> keras.Model:
    """Builds the text branch.

    The input is vectors, (B, width) float32, or with `config.is_sequence` token ids,
    (B, width) int32, 0 in padding; `vocabulary_size` includes padding and unknown. With
    `tokens` encoders of sequences return their tokens, (B, width, D), and the mask
    (B, width) bool, instead of one vector (B, D).
    """
    if not config.is_sequence:
        return _dense(config, width, name)
    ids = keras.Input((width,), dtype="int32", name="text_numbers")
    mask = ops.not_equal(ids, 0)  # (B, L)
    x = _encode_sequence(ids, mask, config, vocabulary_size)
    x = Dropout(config.dropout, name="text_dropout")(x)
    if not tokens:
        x = TokenPooling(config.pooling, name="text_pool")(x, mask)
    return keras.Model(ids, [x, mask] if tokens else x, name=name)


def _dense(config, width, name):
    vector = keras.Input((width,), name="text_vector")
    x = Dropout(config.dropout, name="text_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="text_dense")(x)
    return keras.Model(vector, x, name=name)


def _encode_sequence(ids, mask, config, vocabulary_size):
    """(B, L) int32, (B, L) bool -> (B, L, D)."""
    if config.encoder == "bert":
        return bert(ids, mask, config, vocabulary_size)
    embedding = layers.Embedding(vocabulary_size, config.units, name="text_embedding")
    x = embedding(ids)
    if config.encoder == "transformer":
        return _transformer(x, mask, config)
    layer = {"lstm": layers.LSTM, "gru": layers.GRU}[config.encoder]
    name = f"text_{config.encoder}"
    return layer(config.units, return_sequences=True, name=name)(x, mask=mask)


def _transformer(x, mask, config):
    x = PositionEmbedding(name="text_places")(x)
    for i in range(config.layers):
        name, dropout = f"text_block{i + 1}", config.dropout / 2
        x = transformer_block(x, mask, heads=config.heads, dropout=dropout, name=name)
    return layers.LayerNormalization(name="text_norm")(x)
