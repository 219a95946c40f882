"""Shared test of a Keras layer, like KerasHub's `TestCase.run_layer_test`."""

import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops


def run_layer_test(
    layer_class: type,
    init_kwargs: dict,
    inputs: np.ndarray | tuple[np.ndarray, ...],
    expected_shape: tuple,
    *,
    expected_dtype: str | tuple[str, ...] = "float32",
    expected_weights: tuple[int, int] = (0, 0),
    mixed_dtype: str | tuple[str, ...] = "float16",
) -> None:
    """Checks the contract of a registered layer with Keras.

    Args:
        inputs: Arguments of the call, with the batch dimension. The outputs must
            depend on each trainable weight.
        expected_shape: Shape of the output with the batch dimension, or a tuple of
            shapes.
        expected_dtype: Dtype of each output under the policy float32.
        expected_weights: Number of trainable and of non-trainable weights.
        mixed_dtype: Dtype of each output under the policy mixed_float16.

    Example:
        run_layer_test(UnitVector, {}, (np.ones((2, 3)), np.ones((2, 1))), (2, 3))
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    shapes = expected_shape
    if not isinstance(shapes[0], tuple):
        shapes = (shapes,)
    _check_config(layer_class, init_kwargs)
    layer = layer_class(**init_kwargs)
    _check_outputs(_call(layer, inputs), shapes, expected_dtype)
    counts = (len(layer.trainable_weights), len(layer.non_trainable_weights))
    assert counts == expected_weights, [weight.path for weight in layer.weights]

    model, outputs = _build_model(layer_class(**init_kwargs), inputs)
    _check_outputs(outputs, [(None, *shape[1:]) for shape in shapes], expected_dtype)
    _check_training(model, inputs)
    _check_saving(model, inputs)

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        outputs = _call(layer_class(**init_kwargs), inputs)
    finally:
        keras.config.set_dtype_policy(policy)
    _check_outputs(outputs, shapes, mixed_dtype)
    assert all(np.isfinite(np.array(x, "float32")).all() for x in outputs)


def _call(layer, inputs) -> list:
    outputs = layer(*map(ops.convert_to_tensor, inputs))
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _check_config(layer_class, init_kwargs):
    config = layer_class(**init_kwargs).get_config()
    assert json.loads(json.dumps(config)) == config
    assert init_kwargs.items() <= config.items()
    assert layer_class.from_config(config).get_config() == config
    name = keras.saving.get_registered_name(layer_class)
    assert name.startswith("mmkeras>")
    assert keras.saving.get_registered_object(name) is layer_class


def _check_outputs(outputs, shapes, dtypes):
    dtypes = [dtypes] if isinstance(dtypes, str) else list(dtypes)
    assert [tuple(x.shape) for x in outputs] == list(shapes)
    assert [keras.backend.standardize_dtype(x.dtype) for x in outputs] == dtypes


def _build_model(layer, inputs):
    """Returns a model of the layer and a dense unit, and the layer's outputs."""
    tensors = [keras.Input(x.shape[1:], dtype=x.dtype.name) for x in inputs]
    outputs = layer(*tensors)
    outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    vectors = [keras.layers.Flatten()(ops.cast(x, "float32")) for x in outputs]
    dense = keras.layers.Dense(1, kernel_initializer="random_normal")
    return keras.Model(tensors, dense(ops.concatenate(vectors, axis=1))), outputs


def _check_training(model, inputs):
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile("sgd", "mse")
    target = np.linspace(1, 2, len(inputs[0]), dtype="float32")[:, None]
    history = model.fit(list(inputs), target, batch_size=len(target), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, value in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(weight.numpy(), value), weight.path


def _check_saving(model, inputs):
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        restored = keras.models.load_model(Path(folder) / "model.keras")
    np.testing.assert_array_equal(restored(list(inputs)), model(list(inputs)))
