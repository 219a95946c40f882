"""Encoders that a user gives for columns: Keras models, or functions that build one."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from mmkeras.errors import UserError, did_you_mean, one_line

# A model from the input of a branch to (B, D), or where fusion takes tokens (B, L, D);
# or a function from the shape of a row of that input to such a model.
Encoder: TypeAlias = keras.Model | Callable[[tuple[int, ...]], keras.Model]


def check_encoders(encoders: Mapping[str, Any], branches: Collection[str]) -> None:
    """Checks that there is a branch for each encoder.

    Raises:
        UserError: There is none, or an encoder is neither a model nor a function.
    """
    for name, encoder in encoders.items():
        if name not in branches:
            hint = did_you_mean(name, list(branches))
            raise UserError(f"encoders has '{name}', which is no branch.{hint}")
        check_encoder(name, encoder)


def check_encoder(name: str, encoder: Any) -> None:
    """Checks the type of an encoder.

    Raises:
        UserError: It is neither a model nor a function.
    """
    is_layer = isinstance(encoder, keras.Layer) and not isinstance(encoder, keras.Model)
    if is_layer or not callable(encoder):
        raise UserError(
            f"encoders['{name}'] is of type {type(encoder).__name__}. Give a "
            "keras.Model, or a function from the shape of a row to one."
        )


def apply_encoder(
    encoder: Encoder, name: str, x: keras.KerasTensor, tokens: bool
) -> keras.KerasTensor:
    """Applies a copy of an encoder, so that training does not change the user's.

    `x` is the input of the branch `name`; images are uint8, and cast to the dtype of
    the encoder's input.

    Raises:
        UserError: The encoder does not take the input, gives another shape, or cannot
            be saved and loaded.
    """
    if isinstance(encoder, keras.Model):
        model = _copy(encoder, name)
        model.set_weights(encoder.get_weights())
        _copy_trainable(encoder, model)
    else:
        try:
            model = encoder(tuple(x.shape[1:]))
        except Exception as error:
            text = f"encoders['{name}'] failed: {type(error).__name__}: {error}"
            raise UserError(text) from error
        if not isinstance(model, keras.Model):
            kind = type(model).__name__
            text = f"encoders['{name}'] must return a keras.Model, not {kind}."
            raise UserError(text)
        _copy(model, name)
    try:
        # A model without an input layer is built by its first call.
        dtype = model.inputs[0].dtype if model.built else "float32"
        result = model(ops.cast(x, dtype))
    except ValueError as error:
        raise UserError(
            f"encoders['{name}'] does not take its input, {x.dtype} of shape "
            f"{tuple(x.shape)}: {error}"
        ) from error
    allowed = (2, 3) if tokens else (2,)
    if len(getattr(result, "shape", ())) not in allowed:
        shapes = "(B, D) or (B, L, D)" if tokens else "(B, D)"
        shape = getattr(result, "shape", type(result).__name__)
        raise UserError(f"encoders['{name}'] must return {shapes}, received {shape}.")
    return result


def _copy(model: keras.Model, name: str) -> keras.Model:
    """Returns a copy with new weights, made as when a saved model is loaded."""
    try:
        config = _without_compile(keras.saving.serialize_keras_object(model))
        return keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:  # of Keras, or of the user's layers
        raise UserError(
            f"encoders['{name}'] cannot be saved and loaded by Keras: "
            f"{one_line(error, 300)} Use no functions of Python (Lambda), and give "
            "your layers get_config and @keras.saving.register_keras_serializable()."
        ) from error


def _without_compile(config: Any) -> Any:
    """Returns the settings of a model without losses and optimizers, at any depth."""
    if isinstance(config, Mapping):
        names = config.keys() - {"compile_config"}
        return {n: _without_compile(value) for n, value in config.items() if n in names}
    if isinstance(config, list):
        return list(map(_without_compile, config))
    return config


def _copy_trainable(source: keras.Model, target: keras.Model) -> None:
    """Freezes the layers of a copy that are frozen in a model, at any depth."""
    target.trainable = source.trainable
    for before, after in zip(source.layers, target.layers, strict=True):
        if isinstance(before, keras.Model):
            _copy_trainable(before, after)
        else:
            after.trainable = before.trainable
