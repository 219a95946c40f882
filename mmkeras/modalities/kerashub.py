"""KerasHub's BERT and ViT backbones, with sizes and weights from the settings."""

from types import ModuleType

import keras
from keras import layers

from mmkeras.config import ImageConfig, TextConfig
from mmkeras.environment.extras import import_extra
from mmkeras.files import check_file
from mmkeras.layers.sequence import FullMask, TokenPooling
from mmkeras.modalities.weights import load_weights_file


def keras_hub() -> ModuleType:
    """Imports KerasHub, which takes seconds, or raises UserError."""
    return import_extra("keras_hub", "An encoder of KerasHub")


def bert(ids, mask, config: TextConfig, vocabulary_size: int) -> keras.KerasTensor:
    """Applies BERT to token ids: (B, L) int32, (B, L) bool to (B, L, config.units).

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805; KerasHub's backbone.
    """
    backbone = keras_hub().models.BertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=config.layers,
        num_heads=config.heads,
        hidden_dim=config.units,
        intermediate_dim=4 * config.units,
        max_sequence_length=config.max_tokens,
    )
    if config.weights != "none":
        _load_file(backbone, config.weights, "text.weights")
    # Without the pooled output, whose dense layer would get no gradient.
    body = keras.Model(backbone.input, backbone.output["sequence_output"], name="bert")
    return body(
        {
            "token_ids": ids,
            "segment_ids": keras.ops.zeros_like(ids),
            "padding_mask": keras.ops.cast(mask, "int32"),
        }
    )


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
