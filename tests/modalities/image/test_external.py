"""Tests of models that users bring: .keras files and SavedModels."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import ImageConfig
from mmkeras.errors import UserError
from mmkeras.export.saved_model import export
from mmkeras.modalities.image.encoder import build_image_encoder, fetch_image_weights
from tests.preset_models import new_model

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
FLOATS = PIXELS.astype(np.float32)


def build(kind, weights, tokens=False, **settings):
    config = ImageConfig(encoder=kind, weights=str(weights), size_px=32, **settings)
    return build_image_encoder(config, tokens)


def small_model(pooled=False, size_px=32):
    keras.utils.set_random_seed(1)
    pixels = keras.Input((size_px, size_px, 3))
    x = keras.layers.Conv2D(4, 8, 8)(pixels)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(
        pixels, keras.layers.GlobalMaxPooling2D()(x) if pooled else x, name="mine"
    )


def save(model, folder):
    model.save(folder / "mine.keras")
    return folder / "mine.keras"


def check_reload(encoder, folder, weights):
    """Saves and loads an encoder whose weights are elsewhere by then."""
    expected = np.array(encoder(PIXELS))
    encoder.save(folder / "encoder.keras")
    weights.rename(folder / "moved")
    loaded = keras.models.load_model(folder / "encoder.keras")
    for training in (False, True):
        result = loaded(PIXELS, training=training)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", ["0..255", "-1..1"])
def test_a_keras_model_gets_pixels_of_the_declared_range(scale, tmp_path):
    model = small_model(pooled=True)
    encoder = build("keras", path := save(model, tmp_path), scale=scale)
    expected = model(FLOATS if scale == "0..255" else FLOATS / 127.5 - 1)
    np.testing.assert_allclose(encoder(PIXELS), expected, rtol=1e-4, atol=1e-4)
    check_reload(encoder, tmp_path, path)


def test_a_map_of_a_keras_model_is_averaged_or_gives_tokens(tmp_path):
    model = small_model()
    path, places = save(model, tmp_path), np.array(model(FLOATS)).reshape(2, 16, 4)
    result = build("keras", path)(PIXELS)
    np.testing.assert_allclose(result, places.mean(1), rtol=1e-4, atol=1e-4)
    result = build("keras", path, tokens=True)(PIXELS)
    np.testing.assert_allclose(result, places, rtol=1e-4, atol=1e-4)


@keras.saving.register_keras_serializable("test_external")
class Unknown(keras.layers.Layer):
    def call(self, x):
        return x


def with_layer(layer):
    pixels = keras.Input((32, 32, 3))
    return keras.Model(pixels, layer(small_model(pooled=True)(pixels)))


def two_inputs():
    inputs = [keras.Input((32, 32, 3)) for _ in range(2)]
    return keras.Model(inputs, keras.layers.Add()(inputs))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: small_model(size_px=64), "inputs .64, 64, 3.*needs .32, 32, 3. by"),
        (lambda: with_layer(keras.layers.Reshape((2, 2))), r"outputs \(2, 2\).*\(D,\)"),
        (lambda: with_layer(keras.layers.Lambda(lambda x: x)), "cannot be loaded"),
        (two_inputs, "several inputs"),
    ],
)
def test_another_keras_model_is_refused_in_one_line(model, reason, tmp_path):
    path = save(model(), tmp_path)
    with pytest.raises(UserError, match=rf"\Aimage.weights='{path}' .*{reason}.*\Z"):
        build("keras", path)


def test_layers_of_a_user_are_refused_in_one_line(tmp_path, monkeypatch):
    path = save(with_layer(Unknown()), tmp_path)
    monkeypatch.delitem(
        keras.saving.get_custom_objects(), "test_external>Unknown", raising=False
    )
    monkeypatch.delattr(f"{__name__}.Unknown")
    with pytest.raises(UserError, match=r"\A.*cannot be loaded.*saved_model\.\Z"):
        build("keras", path)
    with pytest.raises(UserError, match="'gone.keras' is no file; give the path of"):
        build("keras", "gone.keras")


class Module(tf.Module):
    """SavedModel of uint8 or float32 images, which gives the mean of each channel."""

    def __init__(self, dtype):
        super().__init__()
        self.factor = tf.Variable(2.0)
        spec = tf.TensorSpec((None, 32, 32, 3), dtype)

        def call(pixels):
            return self.factor * tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2])

        self.__call__ = tf.function(call, [spec])


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("uint8", "0..255"), ("float32", "0..255"), ("float32", "0..1")],
)
def test_a_saved_model_gets_pixels_of_the_declared_range(dtype, scale, tmp_path):
    tf.saved_model.save(Module(dtype), str(tmp_path / "module"))
    encoder = build("saved_model", tmp_path / "module", scale=scale)
    expected = 2 * FLOATS.mean((1, 2)) / (255 if scale == "0..1" else 1)
    np.testing.assert_allclose(encoder(PIXELS), expected, rtol=1e-4)
    check_reload(encoder, tmp_path, tmp_path / "module")


def test_a_map_of_a_saved_model_is_averaged_or_gives_tokens(tmp_path):
    model = small_model()
    model.export(tmp_path / "module")
    places = np.array(model(FLOATS)).reshape(2, 16, 4)
    result = build("saved_model", tmp_path / "module")(PIXELS)
    np.testing.assert_allclose(result, places.mean(1), rtol=1e-4, atol=1e-4)
    result = build("saved_model", tmp_path / "module", tokens=True)(PIXELS)
    np.testing.assert_allclose(result, places, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_a_model_of_a_user_is_exported_and_verified(kind, tiny, state, row, tmp_path):
    save(small_model(), tmp_path)
    small_model().export(tmp_path / "module")
    weights = {"keras": "mine.keras", "saved_model": "module"}[kind]
    image = ImageConfig(encoder=kind, weights=str(tmp_path / weights), size_px=32)
    model = new_model(replace(tiny, image=image), state)
    assert export(model, [row], tmp_path / "export").name == "1"


def test_a_folder_without_a_saved_model_is_refused_before_the_rows_are_read(tmp_path):
    config = ImageConfig(encoder="saved_model", weights=str(tmp_path))
    with pytest.raises(UserError, match="is no folder of a SavedModel.*saved_model.pb"):
        fetch_image_weights(config)
