from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import resnet

from mmkeras.config import AudioConfig, ImageConfig, TextConfig
from mmkeras.errors import UserError
from mmkeras.modalities.audio.encoder import build_audio_encoder
from mmkeras.modalities.image.applications import (
    APPLICATIONS,
    FrozenBatchNorm,
    load_weights,
)
from mmkeras.modalities.image.encoder import build_image_encoder
from mmkeras.modalities.text.encoder import build_text_encoder

RESNET = ImageConfig(encoder="resnet50", size_px=32, weights="none")
SMALL = ImageConfig(encoder="small_cnn", size_px=32, weights="none")


@pytest.fixture(scope="module")
def resnet50():
    keras.utils.set_random_seed(1)
    return build_image_encoder(RESNET)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def backbone_of(encoder):
    return encoder.get_layer("resnet50")


# A change of these numbers changes every saved run.
@pytest.mark.parametrize(
    ("build", "width", "parameters"),
    [
        (lambda: build_text_encoder(TextConfig(), 512), 256, 131_328),
        (lambda: build_audio_encoder(AudioConfig(), (128,)), 64, 8_256),
        (lambda: build_image_encoder(SMALL), 256, 141_840),
    ],
)
def test_an_encoder_has_its_width_and_its_parameters(build, width, parameters):
    encoder = build()
    assert encoder.output_shape == (None, width)
    assert encoder.count_params() == parameters


def test_resnet50_gives_2048_numbers_a_picture(resnet50, pixels):
    assert resnet50.count_params() == 23_587_712
    vectors = np.array(resnet50(pixels))
    assert vectors.shape == (2, 2048)
    assert np.isfinite(vectors).all()


def test_resnet50_sees_blue_first_and_without_imagenets_mean(resnet50, pixels):
    bgr = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    expected = backbone_of(resnet50)(bgr.astype(np.float32))
    np.testing.assert_allclose(resnet50(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_local_weights_file_gives_the_encoder_that_wrote_it(
    resnet50, pixels, tmp_path
):
    path = tmp_path / "resnet50.weights.h5"
    backbone_of(resnet50).save_weights(path)

    loaded = build_image_encoder(replace(RESNET, weights=str(path)))

    for one, other in zip(resnet50.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    np.testing.assert_allclose(loaded(pixels), resnet50(pixels), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def legacy_file(resnet50, tmp_path_factory):
    """Weights in the form of the file that Keras offers: one group a layer."""
    path = tmp_path_factory.mktemp("weights") / "notop.h5"
    layers = backbone_of(resnet50).layers
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{w.name}".encode() for w in layer.weights]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()
    return path


def test_imagenet_weights_are_fetched_and_loaded(
    resnet50, legacy_file, pixels, monkeypatch
):
    asked = []

    def get_file(name, url, **options):
        asked.append((name, url, options["file_hash"]))
        return str(legacy_file)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    loaded = build_image_encoder(replace(RESNET, weights="imagenet"))

    ((name, url, file_hash),) = asked
    assert name == "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert url == resnet.BASE_WEIGHTS_PATH + name
    assert file_hash == resnet.WEIGHTS_HASHES["resnet50"][1]
    np.testing.assert_allclose(loaded(pixels), resnet50(pixels), rtol=1e-4, atol=1e-5)


def test_pretrained_statistics_stay_as_they_are_in_training(legacy_file, pixels):
    encoder = build_image_encoder(replace(RESNET, weights=str(legacy_file)))
    encoder.trainable = True
    calm, trained_model = (
        encoder(pixels, training=False),
        encoder(pixels, training=True),
    )
    np.testing.assert_allclose(trained_model, calm, rtol=1e-4, atol=1e-5)
    # The scale and shift of the normalisation are trained with the rest.
    assert len(encoder.trainable_weights) == 212


def test_fixed_statistics_are_saved_with_their_model(tmp_path):
    x = keras.Input((3,), name="x")
    inner = keras.Model(x, keras.layers.BatchNormalization()(x))
    model = keras.Model({"x": x}, FrozenBatchNorm(inner, name="fixed")(x))
    inner.layers[-1].moving_mean.assign([1.0, 2.0, 3.0])
    model.save(tmp_path / "fixed.keras")

    loaded = keras.models.load_model(tmp_path / "fixed.keras")

    row = {"x": np.float32([[1, 3, 5]])}
    np.testing.assert_allclose(loaded(row, training=True), [[0, 1, 2]], atol=1e-2)


def error_of(build):
    with pytest.raises(UserError) as caught:
        build()
    (line,) = str(caught.value).splitlines()
    return line


def test_a_refused_download_names_the_options_that_are_left(monkeypatch):
    def refuse(*_, **__):
        raise Exception("URL fetch failure:\nNone -- [Errno -2] Name not known")

    monkeypatch.setattr(keras.utils, "get_file", refuse)
    line = error_of(lambda: build_image_encoder(replace(RESNET, weights="imagenet")))
    assert "Name not known" in line
    assert "--image.weights FILE" in line
    assert "--image.weights none" in line


def test_a_missing_weights_file_is_told():
    line = error_of(lambda: build_image_encoder(replace(RESNET, weights="no.h5")))
    assert "image.weights='no.h5' is no file" in line


def other_weights(folder):
    path = folder / "other.weights.h5"
    build_text_encoder(TextConfig(units=2), 3).save_weights(path)
    return path


def not_hdf5(folder):
    path = folder / "text.weights.h5"
    path.write_text("not a weights file")
    return path


def other_ending(folder):
    path = folder / "weights.pt"
    path.write_bytes(b"\x80\x02")
    return path


def empty_hdf5(folder):
    path = folder / "empty.h5"
    h5py.File(path, "w").close()
    return path


def other_legacy_file(folder):
    path = folder / "other.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [b"kernel"]
        group["kernel"] = np.zeros((2, 2))
    return path


def torn_legacy_file(folder):
    path = folder / "torn.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
    return path


@pytest.mark.parametrize(
    "make",
    [
        other_weights,
        not_hdf5,
        other_ending,
        empty_hdf5,
        other_legacy_file,
        torn_legacy_file,
    ],
)
def test_a_file_of_other_weights_is_told(make, resnet50, tmp_path):
    path = make(tmp_path)
    backbone = keras.models.clone_model(backbone_of(resnet50))
    line = error_of(lambda: load_weights(backbone, APPLICATIONS["resnet50"], str(path)))
    assert f"The weights in '{path}' do not fit ResNet50 without top" in line


def test_the_small_encoder_sees_a_picture_through_histograms_and_a_cnn(pixels):
    encoder = build_image_encoder(SMALL)
    names = {layer.name for layer in encoder.layers}
    assert {"colour_histogram", "oriented_gradients", "conv1", "conv4"} <= names
    one, other = np.array(encoder(pixels))
    assert np.isfinite(one).all() and not np.allclose(one, other)


def test_dropout_acts_in_training_alone():
    encoder = build_text_encoder(TextConfig(dropout=0.9), 512)
    x = np.ones((1, 512), np.float32)
    np.testing.assert_array_equal(encoder(x), encoder(x, training=False))
    assert not np.allclose(encoder(x), encoder(x, training=True))
