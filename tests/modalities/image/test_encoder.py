"""Tests of all image encoders, and of the ViT of kerashub.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import ImageConfig
from mmkeras.errors import UserError
from mmkeras.modalities.image.encoder import build_image_encoder
from mmkeras.modalities.kerashub import keras_hub

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def build(kind, tokens=False, **settings):
    keras.utils.set_random_seed(1)
    settings = {"size_px": 32, "weights": "none", "units": 8, "layers": 1} | settings
    return build_image_encoder(ImageConfig(encoder=kind, heads=2, **settings), tokens)


SLOW = ("resnet50", "resnet101", "efficientnetv2", "convnext")
# Width, parameters and tokens. A change of the parameters changes every saved run.
SIZES = {  # convolutions, then the rest
    "small_cnn": (256, 141_840, (4, 128)),
    "cnn": (128, 448 + 4_640 + (8 * 8 * 32 + 1) * 128, (64, 32)),
    "cnn_lstm": (128, 19_392 + 4 * (8 * 64 + 128 + 1) * 128 + 129 * 128, (8, 128)),
    "pixels": (768, 0, (256, 3)),
    "vit": (8, (8 * 8 * 3 + 1) * 8 + 16 * 8 + 872 + 16, (16, 8)),
    # a class token before the patches
    "kerashub_vit": (8, (8 * 8 * 3 + 1) * 8 + 8 + 17 * 8 + 872 + 16, (17, 8)),
    "resnet50": (2048, 23_587_712, (1, 2048)),
    "resnet101": (2048, 42_658_176, (1, 2048)),
    "efficientnetv2": (1280, 5_919_312, (1, 1280)),
    "convnext": (768, 27_820_128, (1, 768)),
    "mobilenetv3": (960, 2_996_352, (1, 960)),
    "efficientnet_lite0": (1280, 3_413_024, (1, 1280)),
}
KINDS = [
    pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in SIZES
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_has_its_width_its_parameters_and_its_tokens(kind):
    encoder, (width, parameters, tokens) = build(kind), SIZES[kind]
    assert encoder.output_shape == (None, width)
    assert encoder.count_params() == parameters
    vectors = np.array(encoder(PIXELS))
    assert np.isfinite(vectors).all() and vectors.dtype == np.float32
    assert not np.allclose(*vectors, rtol=1e-3, atol=0)
    if tokens:
        result = np.array(build(kind, tokens=True)(PIXELS))
        assert result.shape == (2, *tokens) and np.isfinite(result).all()


@pytest.mark.parametrize("kind", ["mobilenetv3", "efficientnet_lite0"])
def test_the_vector_of_a_network_is_the_mean_of_its_positions(kind):
    vectors, positions = build(kind, size_px=64), build(kind, tokens=True, size_px=64)
    positions.set_weights(vectors.get_weights())
    pixels = PIXELS.repeat(2, axis=1).repeat(2, axis=2)
    tokens = np.array(positions(pixels))  # 2 x 2 places
    scale = np.abs(tokens).max()  # untrained layers make it small
    assert tokens.shape[1] == 4
    assert np.abs(tokens[:, 0] - tokens[:, 1]).max() > scale / 100
    expected = np.array(vectors(pixels))
    np.testing.assert_allclose(tokens.mean(axis=1), expected, atol=scale * 1e-5)


def check_gradient(encoder):
    with tf.GradientTape() as tape:
        x = encoder(PIXELS)
        loss = tf.reduce_sum(x * tf.range(x.shape[-1] * 1.0) ** 2)
    gradients = tape.gradient(loss, encoder.trainable_variables)
    for weight, gradient in zip(encoder.trainable_variables, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, weight.path


@pytest.mark.parametrize("kind", KINDS[4:])
def test_the_gradient_reaches_every_weight(kind):
    check_gradient(build(kind, pooling="attention"))
    if SIZES[kind][2]:
        check_gradient(build(kind, tokens=True))


def test_pixels_are_the_mean_colors_of_their_cells():
    cells = PIXELS.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4)) / 255
    vectors = build("pixels")(PIXELS)
    np.testing.assert_allclose(vectors, cells.reshape(2, -1), rtol=1e-5)


@pytest.mark.parametrize("size_px", [33, 47, 100])
def test_pixels_of_any_size_are_sixteen_per_side(size_px):
    pixels = np.full((1, size_px, size_px, 3), 51, np.uint8)
    result = np.array(build("pixels", size_px=size_px)(pixels))
    np.testing.assert_allclose(result, np.full((1, 768), 0.2), rtol=1e-5)


def test_an_lstm_reads_the_rows_of_the_map_from_top_to_bottom():
    states = build("cnn_lstm", tokens=True)
    before, pixels = np.array(states(PIXELS)), PIXELS.copy()
    pixels[:, 24:] = 255 - pixels[:, 24:]  # the lowest quarter
    after = np.array(states(pixels))
    np.testing.assert_allclose(after[:, :5], before[:, :5], rtol=1e-5, atol=1e-6)
    assert not np.allclose(after[:, 7], before[:, 7], atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "kerashub_vit"])
def test_the_position_of_a_patch_matters_to_a_vit(kind):
    encoder, pixels = build(kind), np.full((1, 32, 32, 3), 128, np.uint8)
    left, right = pixels.copy(), pixels.copy()
    left[:, :8, :8] = right[:, :8, 24:] = 255
    assert not np.allclose(encoder(left), encoder(right), atol=1e-6)


# KerasHub's ViT -----------------------------------------------------------------


@pytest.mark.parametrize("size_px", [32, 45])  # in 45 five pixels are past the patches
def test_kerashubs_vit_gets_pixels_between_minus_one_and_one(size_px):
    shape = (2, size_px, size_px, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, "uint8")
    encoder = build("kerashub_vit", size_px=size_px)
    patches = pixels[:, : size_px // 8 * 8, : size_px // 8 * 8]
    tokens = encoder.get_layer("kerashub_vit")(patches.astype(np.float32) / 127.5 - 1)
    expected = np.array(tokens).mean(1)
    np.testing.assert_allclose(encoder(pixels), expected, rtol=1e-4, atol=1e-5)


def kerashub_backbone(units=8):
    return keras_hub().models.ViTBackbone((32, 32, 3), 8, 1, 2, units, 32)


def test_weights_of_a_kerashub_backbone_are_loaded(tmp_path):
    path, backbone = tmp_path / "vit.weights.h5", kerashub_backbone()
    backbone.save_weights(path)
    tokens = build("kerashub_vit", tokens=True, weights=str(path))(PIXELS)
    expected = backbone(PIXELS.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)


def test_imagenet_means_from_scratch_for_kerashubs_vit():
    weights = build("kerashub_vit", weights="imagenet").weights
    for weight, other in zip(weights, build("kerashub_vit").weights, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_a_file_that_kerashubs_vit_cannot_load_is_refused_in_one_line(tmp_path):
    wider = tmp_path / "wider.weights.h5"
    kerashub_backbone(units=16).save_weights(wider)
    for path, reason in {
        "gone.h5": "image.weights='gone.h5' is no file; give none, or",
        str(wider): f"{wider}' do not fit the sizes.*image.units",
    }.items():
        with pytest.raises(UserError, match=rf"\A.*{reason}.*\Z"):
            build("kerashub_vit", weights=path)


def test_kerashubs_vit_is_saved_with_its_model(tmp_path):
    encoder = build("kerashub_vit")
    model = keras.Model({"pixels": encoder.input}, encoder.output)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    inputs = {"pixels": PIXELS}
    np.testing.assert_allclose(loaded(inputs), model(inputs), rtol=1e-5, atol=1e-6)
