"""Registered names of layers in saved models."""

from collections.abc import Callable

import keras


def saved_as(name: str) -> Callable[[type], type]:
    """Returns a decorator that registers a layer under its name in saved files.

    Keras finds a layer by its registered name, and its weights in a file by the name of
    the class, so both become `name`.
    """

    def register(layer: type) -> type:
        layer.__name__ = name
        return keras.saving.register_keras_serializable("mmkeras", name)(layer)

    return register
