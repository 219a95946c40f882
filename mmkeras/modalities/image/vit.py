"""A small Vision Transformer from scratch."""

from keras import layers

from mmkeras.layers.sequence import (
    FullMask,
    PositionEmbedding,
    TokenPooling,
    transformer_block,
)
from mmkeras.modalities.image.cnn import flatten_map


def vit(pixels, config, tokens):
    """Applies a ViT: (B, S, S, 3) -> (B, units), or (B, L, units) with `tokens`.

    Pixels past the last complete patch are ignored.

    Source: Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929, with pooling
    instead of a class token.
    """
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(pixels)
    x = layers.Conv2D(config.units, config.patch_px, config.patch_px, name="patches")(x)
    x = flatten_map(x)
    x = PositionEmbedding(name="image_places")(x)
    mask = FullMask(name="all")(x)
    for i in range(config.layers):
        x = transformer_block(
            x, mask, heads=config.heads, dropout=0.1, name=f"image_block{i + 1}"
        )
    x = layers.LayerNormalization(name="image_norm")(x)
    return x if tokens else TokenPooling(config.pooling, name="image_pool")(x, mask)
