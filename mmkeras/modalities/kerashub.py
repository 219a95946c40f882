"""KerasHub's BERT and ViT: sizes by choice, weights from a file or from scratch."""

from pathlib import Path
from types import ModuleType

import keras
from keras import layers

from mmkeras.config import ImageConfig, TextConfig
from mmkeras.environment.extras import import_extra
from mmkeras.errors import UserError
from mmkeras.layers.sequence import FullMask, TokenPooling
from mmkeras.modalities.weights import load_all_weights


def keras_hub() -> ModuleType:
    """Imports KerasHub, which takes seconds.

    Raises:
        UserError: It is not installed.
    """
    return import_extra("keras_hub", "An encoder of KerasHub")


def load_file(backbone: keras.Model, path: str, setting: str) -> None:
    """Loads a weights file into a backbone.

    Raises:
        UserError: It is no file, or none of such a backbone.
    """
    if not Path(path).is_file():
        raise UserError(
            f"{setting}='{path}' is no file; give none, or a .weights.h5 file of such "
            "a backbone."
        )
    try:
        load_all_weights(backbone, path)
    except (ValueError, OSError, KeyError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"{setting}='{path}' does not fit the sizes of the settings ({words})."
        ) from error


def bert(
    numbers: keras.KerasTensor,
    mask: keras.KerasTensor,
    config: TextConfig,
    vocabulary: int,
) -> keras.KerasTensor:
    """Token numbers through BERT: (B, L) int32, (B, L) bool to (B, L, config.units).

    Raises:
        UserError: The weights are no file, or do not fit.

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805; KerasHub's backbone.
    """
    backbone = keras_hub().models.BertBackbone(
        vocabulary_size=vocabulary,
        num_layers=config.layers,
        num_heads=config.heads,
        hidden_dim=config.units,
        intermediate_dim=4 * config.units,
        max_sequence_length=config.max_tokens,
    )
    if config.weights != "none":
        load_file(backbone, config.weights, "text.weights")
    # The pooled output stays out, and with it a dense layer that nothing would train.
    body = keras.Model(backbone.input, backbone.output["sequence_output"], name="bert")
    return body(
        {
            "token_ids": numbers,
            "segment_ids": keras.ops.zeros_like(numbers),
            "padding_mask": keras.ops.cast(mask, "int32"),
        }
    )


def kerashub_vit(
    pixels: keras.KerasTensor, config: ImageConfig, tokens: bool
) -> keras.KerasTensor:
    """(B, S, S, 3) uint8 -> (B, units), or with `tokens` (B, 1 + L, units).

    First of the tokens is the class token, then come the patches; pixels past the last
    whole patch are left out. "imagenet", the default of image.weights, is from scratch,
    as for all encoders that have no such weights.

    Raises:
        UserError: The weights are no file, or do not fit.

    Source: Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929; KerasHub's
    backbone, whose tokens are pooled as those of vit.py.
    """
    # Whole patches, as the convolution of a ViT sees them.
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
        load_file(backbone, config.weights, "image.weights")
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(pixels[:, :size_px, :size_px])
    x = backbone(x)
    if tokens:
        return x
    return TokenPooling(config.pooling, name="image_pool")(x, FullMask(name="all")(x))
