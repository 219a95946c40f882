"""Text branch: a vector through a dense layer, or tokens through a sequence layer."""

import keras
from keras import layers, ops

from mmkeras.config import TextConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import PositionEmbedding, TokenPooling, transformer_block
from mmkeras.modalities.kerashub import bert


def build_text_encoder(
    config: TextConfig, width: int, vocabulary: int = 0, tokens: bool = False
) -> keras.Model:
    """Builds the text branch.

    Args:
        config: Kind and sizes.
        width: Numbers of a row's input: of its vector, (B, width) float32, or with
            `config.is_sequence` its token numbers, (B, width) int32, 0 in padding.
        vocabulary: Token numbers that there are, padding and unknown ones included.
        tokens: Whether encoders of sequences give their tokens, (B, width, D), and
            the mask (B, width) bool, instead of one vector (B, D).
    """
    if not config.is_sequence:
        return _dense(config, width)
    numbers = keras.Input((width,), dtype="int32", name="text_numbers")
    mask = ops.not_equal(numbers, 0)  # (B, L)
    x = _SEQUENCES[config.encoder](numbers, mask, config, vocabulary)
    x = Dropout(config.dropout, name="text_dropout")(x)
    if not tokens:
        x = TokenPooling(config.pooling, name="text_pool")(x, mask)
    return keras.Model(numbers, [x, mask] if tokens else x, name="text_encoder")


def _dense(config, width):
    vector = keras.Input((width,), name="text_vector")
    x = Dropout(config.dropout, name="text_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="text_dense")(x)
    return keras.Model(vector, x, name="text_encoder")


def _embedded(numbers, config, vocabulary):
    embedding = layers.Embedding(vocabulary, config.units, name="text_embedding")
    return embedding(numbers)  # (B, L, D)


def _lstm(numbers, mask, config, vocabulary):
    x = _embedded(numbers, config, vocabulary)
    lstm = layers.LSTM(config.units, return_sequences=True, name="text_lstm")
    return lstm(x, mask=mask)


def _gru(numbers, mask, config, vocabulary):
    x = _embedded(numbers, config, vocabulary)
    gru = layers.GRU(config.units, return_sequences=True, name="text_gru")
    return gru(x, mask=mask)


def _transformer(numbers, mask, config, vocabulary):
    x = _embedded(numbers, config, vocabulary)
    x = PositionEmbedding(name="text_places")(x)
    for i in range(config.layers):
        x = transformer_block(
            x,
            mask,
            heads=config.heads,
            dropout=config.dropout / 2,
            name=f"text_block{i + 1}",
        )
    return layers.LayerNormalization(name="text_norm")(x)


_SEQUENCES = {"lstm": _lstm, "gru": _gru, "transformer": _transformer, "bert": bert}
