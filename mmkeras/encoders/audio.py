"""Audio branch: one vector to another, through a dense layer."""

from collections.abc import Sequence

import keras
from keras import layers

from mmkeras.config import AudioConfig
from mmkeras.dropout import Dropout


def build_audio_encoder(
    config: AudioConfig, shape: Sequence[int], tokens: bool = False
) -> keras.Model:
    """Builds the audio branch.

    Args:
        config: Kind and sizes.
        shape: Of a row's input, float32: (D,), or with `config.is_sequence` (T, F),
            where frames of zeros are padding.
        tokens: Whether encoders of sequences give their tokens, (B, L, D), and the
            mask (B, L) bool, instead of one vector (B, D).
    """
    vector = keras.Input(shape, name="audio_vector")
    x = Dropout(config.dropout, name="audio_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="audio_dense")(x)
    return keras.Model(vector, x, name="audio_encoder")
