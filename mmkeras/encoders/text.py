"""Text branch: one vector to another, through a dense layer."""

import keras
from keras import layers

from mmkeras.config import TextConfig
from mmkeras.dropout import Dropout


def build_text_encoder(
    config: TextConfig, width: int, vocabulary: int = 0, tokens: bool = False
) -> keras.Model:
    """Builds the text branch.

    Args:
        config: Kind and sizes.
        width: Numbers of a row's input: of its vector, (B, width) float32, or with
            `config.is_sequence` its token numbers, (B, width) int32, 0 in padding.
        vocabulary: Tokens known; their numbers begin at 2, and 1 is an unknown one.
        tokens: Whether encoders of sequences give their tokens, (B, width, D), and
            the mask (B, width) bool, instead of one vector (B, D).
    """
    vector = keras.Input((width,), name="text_vector")
    x = Dropout(config.dropout, name="text_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="text_dense")(x)
    return keras.Model(vector, x, name="text_encoder")
