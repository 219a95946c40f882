"""Image towers of KerasHub's presets."""

import keras
from keras import layers, ops

from mmkeras.config import ImageConfig
from mmkeras.errors import UserError
from mmkeras.modalities.image.applications import FrozenBatchNorm
from mmkeras.modalities.image.cnn import flatten_map
from mmkeras.modalities.kerashub import load_image_converter, load_preset

_SETTING = "image.weights"
# Backbones whose first token is the class token, trained as the vector of the image.
_CLASS_TOKEN = ("ViTBackbone", "DeiTBackbone", "DINOV2Backbone", "DINOV3Backbone")
# Those that interpolate their positions to any size of images.
_ANY_SIZE = ("DINOV2Backbone", "DINOV3Backbone")


def kerashub(pixels, config: ImageConfig, tokens: bool) -> keras.KerasTensor:
    """Applies the backbone of `image.weights`: (B, S, S, 3) uint8 to (B, D) float32.

    The vector is the class token of ViT, DeiT and DINO, the projection of CLIP, the
    pooled output of SigLIP, and the mean of all positions of the others. With `tokens`
    the result is all tokens or positions, (B, L, D). Images are resized to the size of
    the preset if it has only one, and scaled by its converter; without one, to 0..1.

    Raises:
        UserError: The preset cannot be loaded, or is not of images.
    """
    backbone = load_preset(_SETTING, config.weights)
    if type(backbone).__name__ in _ANY_SIZE:
        shape = (config.size_px, config.size_px, 3)
        backbone = load_preset(_SETTING, config.weights, image_shape=shape)
    tower = _tower(backbone, config.weights, tokens)
    converter = load_image_converter(_SETTING, config.weights)
    x = _resize(ops.cast(pixels, "float32"), tower.input_shape[1], converter)
    x = FrozenBatchNorm(tower, name="fixed_statistics")(_scale(x, converter))
    return ops.cast(x, "float32")


def _tower(backbone, preset, tokens):
    """Builds (B, S, S, 3) float32, scaled, -> (B, D), or (B, L, D) with `tokens`."""
    kind = type(backbone).__name__
    is_pair = hasattr(backbone, "get_vision_embeddings")
    inner = backbone.vision_encoder if is_pair else backbone
    shapes = [tuple(x.shape[1:]) for x in inner.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 3:
        raise UserError(
            f"{_SETTING}='{preset}' is a {kind}, whose input is no RGB image; give a "
            "preset of images, such as one of ViT, ResNet or CLIP."
        )
    images = keras.Input(shapes[0], name="images")
    x = _encode(backbone, inner, images, tokens)
    if len(getattr(x, "shape", ())) not in (2, 3, 4):
        raise UserError(
            f"{_SETTING}='{preset}' is a {kind}, whose output is neither a vector nor "
            "tokens nor a map of features; give a preset of ViT, ResNet or CLIP."
        )
    if len(x.shape) == 4:
        x = flatten_map(x)
    if not tokens and len(x.shape) == 3:
        x = x[:, 0] if kind in _CLASS_TOKEN else ops.mean(x, axis=1)
    return keras.Model(images, x, name="kerashub")


def _encode(backbone, inner, images, tokens):
    # Some take a dictionary of one image.
    is_dict = isinstance(inner.input, dict)
    inputs = dict.fromkeys(inner.input, images) if is_dict else images
    if inner is backbone:
        return backbone(inputs)
    if not tokens:  # the vector that is compared with that of a text
        return backbone.get_vision_embeddings(images)
    if not hasattr(inner, "post_layer_norm"):
        return inner(inputs)
    # SigLIP's encoder ends with its pooling. KerasHub states one token more than it
    # returns.
    x = keras.Model(inner.input, inner.post_layer_norm.output)(inputs)
    return x[:, : (images.shape[1] // inner.patch_size) ** 2]


def _resize(x, size_px, converter):
    if size_px in (None, x.shape[1]):
        return x
    interpolation = getattr(converter, "interpolation", "bilinear")
    return ops.image.resize(x, (size_px, size_px), interpolation=interpolation)


def _scale(x, converter):
    """Scales as KerasHub's converter does, in plain operations."""
    if converter is None:
        return layers.Rescaling(1 / 255, name="scale")(x)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    x = layers.Rescaling(scale, offset, name="scale")(x)
    # ViT's converter of KerasHub 0.21 subtracts and divides after that.
    if (mean := getattr(converter, "norm_mean", None)) is not None:
        x = layers.Rescaling(1.0, [-value for value in mean], name="center")(x)
    if (deviation := getattr(converter, "norm_std", None)) is not None:
        x = layers.Rescaling([1 / value for value in deviation], name="divide")(x)
    return x
