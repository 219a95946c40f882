"""Audio branch: one vector to another, through a dense layer."""

import keras
from keras import layers

from mmkeras.config import AudioConfig
from mmkeras.dropout import Dropout


def build_audio_encoder(config: AudioConfig, width: int) -> keras.Model:
    """Builds the audio branch: (B, width) float32 to (B, config.units)."""
    vector = keras.Input((width,), name="audio_vector")
    x = Dropout(config.dropout, name="audio_dropout")(vector)
    x = layers.Dense(config.units, activation="relu", name="audio_dense")(x)
    return keras.Model(vector, x, name="audio_encoder")
