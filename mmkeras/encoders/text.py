"""Text branch: one vector to another, through a dense layer."""

import keras
from keras import layers

from mmkeras.config import TextConfig
from mmkeras.dropout import Dropout


def build_text_encoder(config: TextConfig, width: int) -> keras.Model:
    """Builds the text branch: (B, width) float32 to (B, config.units)."""
    vector = keras.Input((width,), name="text_vector")
    x = Dropout(config.dropout, name="text_dropout")(vector)
    x = layers.Dense(config.units, activation="relu", name="text_dense")(x)
    return keras.Model(vector, x, name="text_encoder")
