"""The small encoders of pictures: cnn.py, vit.py, and the ViT of kerashub.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import ImageConfig
from mmkeras.errors import UserError
from mmkeras.modalities.image.encoder import build_image_encoder
from mmkeras.modalities.kerashub import keras_hub

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def built(kind, tokens=False, **settings):
    keras.utils.set_random_seed(1)
    settings = {"size_px": 32, "weights": "none", "units": 8, "layers": 1} | settings
    return build_image_encoder(ImageConfig(encoder=kind, heads=2, **settings), tokens)


@pytest.mark.parametrize(
    ("kind", "width", "parameters"),
    [  # convolutions, then what follows them
        ("cnn", 128, 448 + 4_640 + (8 * 8 * 32 + 1) * 128),
        ("cnn_lstm", 128, 896 + 18_496 + 4 * (8 * 64 + 128 + 1) * 128 + 129 * 128),
        ("pixels", 768, 0),
        ("vit", 8, (8 * 8 * 3 + 1) * 8 + 16 * 8 + 872 + 16),
        ("kerashub_vit", 8, (8 * 8 * 3 + 1) * 8 + 8 + 17 * 8 + 872 + 16),
    ],
)
def test_an_encoder_has_its_width_and_its_parameters(kind, width, parameters):
    encoder = built(kind)
    assert encoder.output_shape == (None, width)
    assert encoder.count_params() == parameters


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("cnn", (2, 64, 32)),
        ("cnn_lstm", (2, 8, 128)),
        ("pixels", (2, 256, 3)),
        ("vit", (2, 16, 8)),
        ("kerashub_vit", (2, 17, 8)),  # a class token before the patches
        ("small_cnn", (2, 4, 128)),
    ],
)
def test_with_tokens_an_encoder_gives_its_places(kind, shape):
    tokens = np.array(built(kind, tokens=True)(PIXELS))
    assert tokens.shape == shape and np.isfinite(tokens).all()


def test_bare_pixels_are_the_mean_colours_of_their_fields():
    fields = PIXELS.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(
        built("pixels")(PIXELS), fields.reshape(2, -1), rtol=1e-5
    )


@pytest.mark.parametrize("size_px", [33, 47, 100])
def test_bare_pixels_of_any_size_are_sixteen_a_side(size_px):
    pixels = np.full((1, size_px, size_px, 3), 51, np.uint8)
    result = np.array(built("pixels", size_px=size_px)(pixels))
    np.testing.assert_allclose(result, np.full((1, 768), 0.2), rtol=1e-5)


def test_an_lstm_reads_the_rows_of_the_map_from_top_to_bottom():
    states = built("cnn_lstm", tokens=True)
    before, changed = np.array(states(PIXELS)), PIXELS.copy()
    changed[:, 24:] = 255 - changed[:, 24:]  # the lowest quarter
    after = np.array(states(changed))
    np.testing.assert_allclose(after[:, :5], before[:, :5], rtol=1e-5, atol=1e-6)
    assert not np.allclose(after[:, 7], before[:, 7], atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "kerashub_vit"])
def test_a_vit_knows_where_a_patch_lies(kind):
    encoder, pixels = built(kind), np.full((1, 32, 32, 3), 128, np.uint8)
    left, right = pixels.copy(), pixels.copy()
    left[:, :8, :8] = right[:, :8, 24:] = 255
    assert not np.allclose(encoder(left), encoder(right), atol=1e-6)


# KerasHub's ViT -----------------------------------------------------------------


@pytest.mark.parametrize("size_px", [32, 45])  # in 45 five pixels are past the patches
def test_kerashubs_vit_sees_pixels_between_minus_one_and_one(size_px):
    pixels = np.random.default_rng(1).integers(
        0, 256, (2, size_px, size_px, 3), "uint8"
    )
    encoder = built("kerashub_vit", size_px=size_px)
    whole = pixels[:, : size_px // 8 * 8, : size_px // 8 * 8]
    tokens = encoder.get_layer("kerashub_vit")(whole.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(
        encoder(pixels), np.array(tokens).mean(1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("tokens", [False, True])
def test_the_gradient_reaches_every_weight_of_kerashubs_vit(tokens):
    encoder = built("kerashub_vit", tokens, pooling="attention")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(PIXELS, training=True) ** 3)
    gradients = tape.gradient(loss, encoder.trainable_variables)
    for weight, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, weight.path


def kerashub_backbone(units=8):
    return keras_hub().models.ViTBackbone((32, 32, 3), 8, 1, 2, units, 32)


def test_weights_of_a_kerashub_backbone_are_loaded(tmp_path):
    path, backbone = tmp_path / "vit.weights.h5", kerashub_backbone()
    backbone.save_weights(path)
    tokens = built("kerashub_vit", tokens=True, weights=str(path))(PIXELS)
    expected = backbone(PIXELS.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_without_a_file_kerashubs_vit_draws_its_weights(weights):
    for one, other in zip(
        built("kerashub_vit", weights=weights).weights,
        built("kerashub_vit").weights,
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_kerashubs_vit_cannot_load_is_one_line(tmp_path):
    wider = tmp_path / "wider.weights.h5"
    kerashub_backbone(units=16).save_weights(wider)
    for path, words in [
        ("gone.h5", "image.weights='gone.h5' is no file; give none, or a"),
        (wider, f"image.weights='{wider}' does not fit the sizes of the settings"),
    ]:
        with pytest.raises(UserError) as caught:
            built("kerashub_vit", weights=str(path))
        (line,) = str(caught.value).splitlines()
        assert words in line


def test_kerashubs_vit_is_saved_with_its_model(tmp_path):
    encoder = built("kerashub_vit")
    model = keras.Model({"pixels": encoder.input}, encoder.output)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    image = {"pixels": PIXELS}
    np.testing.assert_allclose(loaded(image), model(image), rtol=1e-5, atol=1e-6)
