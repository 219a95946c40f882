"""Layer that gives vectors the length 1."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="mmkeras")
class UnitVector(layers.Layer):
    """Vectors scaled to length 1: (B, D), (B, 1) presence to (B, D), zeros if absent.

    A vector of zeros, which has no direction, counts as absent.
    """

    def call(self, vectors, present):
        length = ops.sqrt(ops.sum(ops.square(vectors), axis=1, keepdims=True))
        is_present = (present > 0) & (length > 1e-6)
        safe = ops.where(is_present, vectors, ops.ones_like(vectors))
        unit = ops.normalize(safe, axis=1)
        return ops.where(is_present, unit, ops.zeros_like(unit))
