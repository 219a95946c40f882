from dataclasses import replace
from functools import cache
from typing import get_args

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.utils import file_utils

from mmkeras.config import ImageConfig
from mmkeras.config.image import WITH_IMAGENET, ImageEncoder
from mmkeras.errors import UserError
from mmkeras.export.inference import TrainedModel
from mmkeras.export.saved_model import export
from mmkeras.modalities.image.applications import (
    APPLICATIONS,
    fetch_imagenet,
    load_weights,
)
from mmkeras.modalities.image.encoder import build_image_encoder
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import build_model

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
NEW = ("resnet101", "efficientnetv2", "convnext", "mobilenetv3")
each = pytest.mark.parametrize("name", NEW)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB


def built(name, weights="none", seed=1):
    keras.utils.set_random_seed(seed)
    return build_image_encoder(ImageConfig(encoder=name, size_px=32, weights=weights))


@cache
def scratch(name):
    """One a file, for reading."""
    return built(name)


def backbone_of(encoder):
    """The network itself: the encoder's last layer, or what lies in it."""
    last = encoder.layers[-1]
    return getattr(last, "model", last)


def error_of(build):
    with pytest.raises(UserError) as caught:
        build()
    (line,) = str(caught.value).splitlines()
    return line


def test_settings_know_which_encoders_have_weights_of_imagenet():
    assert set(WITH_IMAGENET) == set(APPLICATIONS)
    assert set(WITH_IMAGENET) == {"resnet50", *NEW}
    assert set(WITH_IMAGENET) < set(get_args(ImageEncoder))


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [
        ("resnet101", 2048, 42_658_176),
        ("efficientnetv2", 1280, 5_919_312),
        ("convnext", 768, 27_820_128),
        ("mobilenetv3", 960, 2_996_352),
    ],
)
def test_an_encoder_has_its_width_and_its_parameters(name, width, parameters):
    encoder = scratch(name)
    assert encoder.count_params() == parameters
    vectors = np.array(encoder(PIXELS))
    assert vectors.shape == (2, width) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnetv2", (PIXELS / 255 - MEAN) / DEVIATION),
        ("convnext", (PIXELS / 255 - MEAN) / DEVIATION),
        ("mobilenetv3", PIXELS / 127.5 - 1),
    ],
)
def test_newer_networks_scale_bytes_inside(name, expected):
    encoder, backbone = scratch(name), backbone_of(scratch(name))
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    *_, last = [layer for layer in backbone.layers if isinstance(layer, kinds)]
    bytes_of = PIXELS.astype(np.float32)
    scaled = keras.Model(backbone.input, last.output)(bytes_of)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(encoder(PIXELS), backbone(bytes_of))


def test_resnet101_sees_blue_first_and_without_imagenets_mean():
    encoder = scratch("resnet101")
    bgr = PIXELS[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    expected = backbone_of(encoder)(bgr)
    np.testing.assert_allclose(encoder(PIXELS), expected, rtol=1e-4, atol=1e-5)


@each
def test_the_gradient_reaches_every_weight(name):
    encoder = scratch(name)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(PIXELS) * tf.range(encoder.output_shape[1] * 1.0))
    gradients = tape.gradient(loss, encoder.trainable_variables)
    for weight, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, weight.path


@each
def test_statistics_from_scratch_follow_within_hundreds_of_steps(name):
    kind = keras.layers.BatchNormalization
    found = [x for x in backbone_of(scratch(name)).layers if isinstance(x, kind)]
    assert all(layer.momentum <= 0.99 for layer in found)
    assert bool(found) == (name != "convnext")


# Weights ------------------------------------------------------------------------


def save_as_keras_offers_it(backbone, path):
    """Writes weights in the form of the ImageNet files: one group a layer."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in backbone.layers]
        for layer in backbone.layers:
            weights = layer.trainable_weights + layer.non_trainable_weights
            names = [f"{i}/{w.name}".encode() for i, w in enumerate(weights)]
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = names
            for key, weight in zip(names, weights, strict=True):
                group[key] = weight.numpy()


@pytest.mark.e2e
@each
def test_weights_of_a_file_give_the_encoder_that_wrote_it(name, tmp_path):
    written, path = scratch(name), tmp_path / "network.weights.h5"
    backbone_of(written).save_weights(path)
    loaded = built(name, str(path), seed=2)
    for one, other in zip(written.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    calm = np.array(loaded(PIXELS))
    np.testing.assert_array_equal(calm, written(PIXELS))
    # Statistics stay as they were trained, and nothing is dropped.
    np.testing.assert_array_equal(loaded(PIXELS, training=True), calm)
    assert len(loaded.trainable_weights) == len(written.trainable_weights)

    model = keras.Model({"pixels": loaded.input}, loaded.output)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again({"pixels": PIXELS}), calm, rtol=1e-5, atol=1e-6)


@each
def test_a_file_of_the_form_that_keras_offers_is_loaded(name, tmp_path, monkeypatch):
    written, path = scratch(name), tmp_path / "notop.h5"
    save_as_keras_offers_it(backbone_of(written), path)
    monkeypatch.setattr(keras.utils, "get_file", lambda *_, **__: str(path))
    loaded = built(name, "imagenet", seed=2)
    for one, other in zip(written.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


@each
def test_a_file_of_other_weights_is_one_line(name, tmp_path):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save_weights(path)
    line = error_of(lambda: built(name, str(path)))
    assert f"The weights in '{path}' do not fit {APPLICATIONS[name].name} with" in line


@each
def test_a_missing_file_is_one_line(name):
    network = APPLICATIONS[name]
    line = error_of(lambda: load_weights(scratch(name), network, "gone.h5"))
    assert "image.weights='gone.h5' is no file; give imagenet, none, or" in line
    assert f"weights file of {network.name} without top" in line


@each
def test_the_file_of_imagenet_is_the_one_that_keras_itself_would_fetch(
    name, monkeypatch
):
    asked = []

    def refuse(*arguments, **options):
        asked.append((*arguments, *options.items()))
        raise OSError("URL fetch failure:\nno network")

    monkeypatch.setattr(file_utils, "get_file", refuse)
    monkeypatch.setattr(keras.utils, "get_file", refuse)
    with pytest.raises(OSError):
        APPLICATIONS[name].build(include_top=False, input_shape=(224, 224, 3))
    line = error_of(lambda: fetch_imagenet(APPLICATIONS[name]))
    assert asked[0] == asked[1]
    assert f"could not be fetched from {asked[0][1]} (URL fetch failure: no net" in line
    assert "--image.weights FILE" in line and "--image.weights none" in line


# The whole model ----------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("name", [*NEW, "kerashub_vit"])
def test_a_model_is_exported_with_raw_bytes_and_proved(
    name, tiny, state, row, tmp_path
):
    keras.utils.set_random_seed(1)
    image = replace(tiny.image, encoder=name, units=8, layers=1, heads=2)
    config = replace(tiny, image=image)
    trained_model = TrainedModel(
        preprocessor=Preprocessor(config, state),
        model=build_model(config, state),
    )
    assert export(trained_model, [row], tmp_path / "export").name == "1"
