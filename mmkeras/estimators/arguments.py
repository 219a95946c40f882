"""Checks of arguments of the estimators."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from mmkeras.config import Config
from mmkeras.errors import UserError
from mmkeras.models.own_encoder import check_encoder


def check_path(path: Any) -> None:
    """Checks that `path` is a path or None.

    Raises:
        UserError: It is not.
    """
    if path is not None and not isinstance(path, str | os.PathLike):
        raise _wrong_type("path", path, 'Give a path, such as "runs/a".')


def check_settings(settings: Any) -> None:
    """Checks that `settings` are a mapping, a Config or None.

    Raises:
        UserError: They are not.
    """
    if settings is not None and not isinstance(settings, Config | Mapping):
        remedy = 'Give a mmkeras.Config, or names and values: {"text.units": 64}.'
        raise _wrong_type("settings", settings, remedy)


def check_encoders(encoders: Any) -> None:
    """Checks that `encoders` are models or functions by column, or None.

    Raises:
        UserError: They are not.
    """
    if encoders is not None and not isinstance(encoders, Mapping):
        remedy = 'Give the encoder of each column: {"photo": model}.'
        raise _wrong_type("encoders", encoders, remedy)
    for name, encoder in (encoders or {}).items():
        check_encoder(name, encoder)


def callback_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of Keras; there may be one, several or none.

    Raises:
        UserError: Something else is among them.
    """
    if not isinstance(callbacks, Iterable):
        callbacks = [] if callbacks is None else [callbacks]
    callbacks = list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            remedy = "Give callbacks of Keras: [keras.callbacks.TerminateOnNaN()]."
            raise _wrong_type("callbacks", callback, remedy)
    return callbacks


def _wrong_type(name: str, value: Any, remedy: str) -> UserError:
    return UserError(f"{name} cannot be of type {type(value).__name__}. {remedy}")
