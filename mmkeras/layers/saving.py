"""Names under which saved models know the layers."""

from collections.abc import Callable

import keras


def saved_as(name: str) -> Callable[[type], type]:
    """Decorates a layer that files of earlier versions know by another name.

    Keras finds a layer by its registered name, and its weights within a file by the
    class's own name, so both stay `name`.
    """

    def register(layer: type) -> type:
        layer.__name__ = name
        return keras.saving.register_keras_serializable("mmkeras", name)(layer)

    return register
