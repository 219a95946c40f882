"""Dropout whose random numbers do not depend on the number of replicas."""

from collections.abc import Callable

import keras
from keras import layers, ops


class ReplicaAwareRandom:
    """Mixin of layers that draw random numbers per row of a batch.

    Attributes:
        replica: For distributed training: returns (index, count) of the replica. Each
            replica draws for all rows of the global batch and uses its part, so that
            a row gets the same numbers as on one device.
    """

    replica: Callable[[], tuple[int, int]] | None = None

    def draw_rows(self, draw: Callable[[tuple], keras.KerasTensor], shape: tuple):
        """Returns numbers of `shape` (B, ...): this replica's rows of one `draw`."""
        if self.replica is None:
            return draw(shape)
        index, count = self.replica()
        rows, *rest = shape
        values = draw((rows * count, *rest))
        return ops.reshape(values, (count, rows, *rest))[index]


@keras.saving.register_keras_serializable(package="mmkeras")
class Dropout(ReplicaAwareRandom, layers.Dropout):
    """Keras' dropout for several replicas, (B, ...) to the same shape."""

    def call(self, inputs, training=False):
        if not training or self.rate == 0 or self.replica is None:
            return super().call(inputs, training=training)

        def draw(shape):
            ones = ops.ones(shape, inputs.dtype)
            return layers.Dropout.call(self, ones, training=True)

        return inputs * self.draw_rows(draw, tuple(ops.shape(inputs)))
