"""Tests of presets of KerasHub with small random backbones."""

from dataclasses import replace
from importlib import import_module

import keras
import numpy as np
import pytest

from mmkeras.config import ImageConfig
from mmkeras.environment import model_hub
from mmkeras.errors import UserError
from mmkeras.export.saved_model import export
from mmkeras.modalities.image.encoder import build_image_encoder, fetch_image_weights
from mmkeras.modalities.kerashub import keras_hub
from tests.preset_models import new_model

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
SIZES = {"patch_size": 8, "num_layers": 1, "hidden_dim": 8, "num_heads": 2}
MLP = {"intermediate_dim": 16}
TEXT = {"vocabulary_size": 9, "embedding_dim": 8, "max_sequence_length": 4, **MLP}
TEXT |= {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "name": "text"}


def pair(kind, *arguments):
    """Builds CLIP or SigLIP, whose encoders of images and texts KerasHub has inside."""
    module = pytest.importorskip(f"keras_hub.src.models.{kind.lower()}")
    towers = {}
    for tower, settings in (("vision", SIZES | MLP), ("text", TEXT)):
        name = f"{module.__name__}.{kind.lower()}_{tower}_encoder"
        encoder = getattr(pytest.importorskip(name), f"{kind}{tower.title()}Encoder")
        if tower == "vision":
            settings = settings | {"image_shape": (64, 64, 3), "name": "vision"}
        towers[tower] = encoder(**settings)
    return model(f"{kind}Backbone")(towers["vision"], towers["text"], *arguments)


def model(name):
    models = keras_hub().models
    if not hasattr(models, name):
        pytest.skip(f"the installed KerasHub has no {name}")
    return getattr(models, name)


def vit(name="ViTBackbone", shape=(64, 64, 3), **settings):
    return model(name)(image_shape=shape, **SIZES, **settings)


def dino(name, **settings):
    return vit(name, (48, 48, 3), **MLP, **settings)


def swin():
    settings = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
    return model("SwinTransformerBackbone")((64, 64, 3), window_size=4, **settings)


def efficientnet():
    one = {"width_coefficients": 1.0, "depth_coefficients": 1.0, "kernel_sizes": 3}
    one |= {"num_repeats": 1, "input_filters": 8, "output_filters": 8, "strides": 2}
    one |= {"expansion_ratios": 2, "squeeze_and_excite_ratios": 0.25}
    settings = {f"stackwise_{name}": [value] for name, value in one.items()}
    return model("EfficientNetBackbone")(stackwise_block_types=["v1"], **settings)


# Backbone, width of its vector, and number and width of its tokens.
BACKBONES = {
    "vit": (lambda: vit(mlp_dim=16), 8, (65, 8)),
    "deit": (lambda: vit("DeiTBackbone", **MLP), 8, (66, 8)),
    "dinov2": (
        lambda: dino("DINOV2Backbone", position_embedding_shape=(48, 48, 3)),
        8,
        (65, 8),
    ),
    "dinov3": (lambda: dino("DINOV3Backbone"), 8, (69, 8)),
    "swin": (swin, 16, (64, 16)),
    "efficientnet": (efficientnet, 1280, (256, 1280)),
    "clip": (lambda: pair("CLIP", 6), 6, (65, 8)),
    "siglip": (lambda: pair("SigLIP"), 8, (64, 8)),
}


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Returns a function from a name to a backbone and its folder, made once."""
    made = {}

    def preset(name):
        if name not in made:
            keras.utils.set_random_seed(1)
            backbone = BACKBONES[name][0]()
            folder = tmp_path_factory.mktemp(name)
            backbone.save_to_preset(folder)
            made[name] = backbone, folder
        return made[name]

    return preset


def build(folder, tokens=False, size_px=64):
    config = ImageConfig(encoder="kerashub", weights=str(folder), size_px=size_px)
    return build_image_encoder(config, tokens)


def features(backbone, pixels):
    """Returns what a backbone gives, (B, L, D) or (B, H, W, D)."""
    inputs = backbone.input
    is_dict = isinstance(inputs, dict)
    return np.array(backbone(dict.fromkeys(inputs, pixels) if is_dict else pixels))


@pytest.mark.parametrize("name", BACKBONES)
def test_a_preset_gives_a_vector_and_tokens_and_is_saved(name, presets, tmp_path):
    _, width, tokens = BACKBONES[name]
    _, folder = presets(name)
    encoder = build(folder)
    vectors = np.array(encoder(PIXELS))
    assert vectors.shape == (2, width) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all() and not np.allclose(*vectors, atol=1e-4)
    all_tokens = build(folder, tokens=True)
    assert all_tokens.output_shape == (None, *tokens)
    assert all_tokens(PIXELS).shape == (2, *tokens)
    model = keras.Model({"pixels": encoder.input}, encoder.output)
    model.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    for training in (False, True):
        result = loaded({"pixels": PIXELS}, training=training)
        np.testing.assert_allclose(result, vectors, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_preset_is_exported_and_verified(name, presets, tiny, state, row, tmp_path):
    image = ImageConfig(encoder="kerashub", weights=str(presets(name)[1]), size_px=64)
    model = new_model(replace(tiny, image=image), state)
    assert export(model, [row], tmp_path / "export").name == "1"


def test_the_vector_is_what_the_backbone_was_trained_for(presets):
    scaled = PIXELS.astype(np.float32) / 255
    backbone, folder = presets("vit")
    expected = features(backbone, scaled)[:, 0]
    np.testing.assert_allclose(build(folder)(PIXELS), expected, rtol=1e-4, atol=1e-4)
    backbone, folder = presets("efficientnet")
    expected = features(backbone, scaled).mean((1, 2))
    np.testing.assert_allclose(build(folder)(PIXELS), expected, rtol=1e-3, atol=1e-4)
    backbone, folder = presets("clip")
    expected = backbone.get_vision_embeddings(scaled)
    np.testing.assert_allclose(build(folder)(PIXELS), expected, rtol=1e-4, atol=1e-4)


def test_a_preset_scales_and_resizes_as_its_converter(tmp_path):
    backbone = vit(shape=(32, 32, 3), mlp_dim=16)
    backbone.save_to_preset(tmp_path)
    settings = {"scale": [0.01, 0.02, 0.03], "offset": [-0.1, 0.2, 0.3]}
    converter = keras_hub().layers.ViTImageConverter(image_size=(32, 32), **settings)
    converter.save_to_preset(tmp_path)
    expected = features(backbone, np.array(converter(PIXELS * 1.0)))[:, 0]
    np.testing.assert_allclose(build(tmp_path)(PIXELS), expected, rtol=1e-4, atol=1e-4)


def test_a_preset_of_texts_is_refused(tmp_path):
    sizes = {"vocabulary_size": 9, "num_layers": 1, "num_heads": 2, "hidden_dim": 8}
    backbone = keras_hub().models.BertBackbone(intermediate_dim=16, **sizes)
    backbone.save_to_preset(tmp_path)
    with pytest.raises(UserError, match=r"\A.*is a BertBackbone, whose input.*\Z"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (".", "is a folder without config.json"),
        ("vit_base_patch16_224_imagnet", "Did you mean 'vit_base_patch16_224_imagenet"),
        ("hf://nobody/nothing", "is not in the cache.*unplugged.*weights DIR"),
        ("kaggle://a/b/keras/c", "is not in the cache.*no network.*weights DIR"),
    ],
)
def test_a_preset_that_cannot_be_had_is_refused_at_once(weights, reason, monkeypatch):
    def refuse(handle):
        raise OSError("no network")

    monkeypatch.setattr(import_module("kagglehub"), "model_download", refuse)
    monkeypatch.setattr(model_hub, "download_problem", lambda *_: "unplugged")
    config = ImageConfig(encoder="kerashub", weights=weights)
    with pytest.raises(UserError, match=rf"\Aimage.weights='{weights}' .*{reason}.*\Z"):
        fetch_image_weights(config)


def test_a_damaged_preset_is_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"\A.*'{tmp_path}' could not be loaded.*\Z"):
        build(tmp_path)
