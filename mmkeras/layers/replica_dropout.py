"""Dropout whose draws do not depend on how many devices share a batch."""

from collections.abc import Callable

import keras
from keras import layers, ops


class ReplicaAwareRandom:
    """A layer's draws for the rows of a batch.

    Attributes:
        share: Where several devices share each batch: returns the place of this one
            and how many they are. Each then draws for all rows of the batch and takes
            its own, so that a row meets the numbers it would meet on one device.
    """

    share: Callable[[], tuple[int, int]] | None = None

    def own_rows(self, draw: Callable[[tuple], keras.KerasTensor], shape: tuple):
        """Returns `draw` of a shape (B, ...), of a shared batch the own B rows."""
        if self.share is None:
            return draw(shape)
        place, places = self.share()
        rows, *rest = shape
        drawn = draw((rows * places, *rest))
        return ops.reshape(drawn, (places, rows, *rest))[place]


@keras.saving.register_keras_serializable(package="mmkeras")
class Dropout(ReplicaAwareRandom, layers.Dropout):
    """Keras' dropout, (B, ...) to the same, which several devices can share."""

    def call(self, inputs, training=False):
        if not training or self.rate == 0 or self.share is None:
            return super().call(inputs, training=training)

        def draw(shape):
            ones = ops.ones(shape, inputs.dtype)
            return layers.Dropout.call(self, ones, training=True)

        return inputs * self.own_rows(draw, tuple(ops.shape(inputs)))
