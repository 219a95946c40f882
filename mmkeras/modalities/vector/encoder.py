"""The branch of precomputed vectors: a dense layer."""

import keras
from keras import layers

from mmkeras.config import VectorConfig
from mmkeras.layers.replica_dropout import Dropout


def build_vector_encoder(config: VectorConfig, width: int, name: str) -> keras.Model:
    """Builds the branch: (B, width) float32 to (B, config.units).

    `config` has `dropout` and `units`; without units the vector itself is returned.
    """
    vector = keras.Input((width,), name="vector")
    x = Dropout(config.dropout, name="vector_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="vector_dense")(x)
    return keras.Model(vector, x, name=name)
