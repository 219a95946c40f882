"""KerasHub's ViT backbone, with sizes and weights from the settings."""

from types import ModuleType

import keras
from keras import layers

from mmkeras.config import ImageConfig
from mmkeras.environment.extras import import_extra
from mmkeras.files import check_file
from mmkeras.layers.sequence import FullMask, TokenPooling
from mmkeras.modalities.weights import load_weights_file


def keras_hub() -> ModuleType:
    """Imports KerasHub, which takes seconds, or raises UserError."""
    return import_extra("keras_hub", "An encoder of KerasHub")


def kerashub_vit(pixels, config: ImageConfig, tokens: bool) -> keras.KerasTensor:
    """Applies a ViT: (B, S, S, 3) uint8 to (B, units), or (B, 1 + L, units) `tokens`.

    The first token is the class token; the others are patches. Pixels past the last
    complete patch are ignored. image.weights "imagenet" means from scratch here.

    Source: Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929; KerasHub's
    backbone, whose tokens are pooled as those of vit.py.
    """
    size_px = config.size_px // config.patch_px * config.patch_px
    backbone = keras_hub().models.ViTBackbone(
        image_shape=(size_px, size_px, 3),
        patch_size=config.patch_px,
        num_layers=config.layers,
        num_heads=config.heads,
        hidden_dim=config.units,
        mlp_dim=4 * config.units,
        dropout_rate=0.1,
        name="kerashub_vit",
    )
    if config.is_pretrained:
        _load_file(backbone, config.weights, "image.weights")
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(pixels[:, :size_px, :size_px])
    x = backbone(x)
    if tokens:
        return x
    return TokenPooling(config.pooling, name="image_pool")(x, FullMask(name="all")(x))


def _load_file(backbone, path, setting):
    expected = "none, or the path of a .weights.h5 file of such a backbone"
    check_file(setting, path, expected)
    section = setting.partition(".")[0]
    sizes = f"the sizes in the settings ({section}.layers, {section}.units, ...)"
    load_weights_file(backbone, path, sizes)
