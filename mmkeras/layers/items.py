"""Encoding of several items per row: each by itself, and their mean."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from mmkeras.layers.saving import saved_as


def encode_items(
    encoder: keras.Model, count: int, shape: tuple[int, ...], dtype: str, name: str
) -> keras.Model:
    """Builds a model that applies an encoder to each item and averages the results.

    The input is (B, count, 1 + N), as for `encode_each`. The output is that of the
    encoder for one item: (B, D), tokens (B, L, D), or tokens and their mask.

    Example:
        encode_items(encoder, 3, (64, 64, 3), "uint8", "photos_encoder")
    """
    width = 1 + math.prod(shape)
    items = keras.Input((count, width), dtype=dtype, name="items")
    return keras.Model(items, encode_each(encoder, items, shape), name=name)


def encode_each(
    encode: Callable[[keras.KerasTensor], Any],
    items: keras.KerasTensor,
    shape: tuple[int, ...],
    prefix: str = "",
) -> Any:
    """Applies a function to each item and averages the results over those of a row.

    `items` are (B, K, 1 + N): 1 for an item and 0 for none, and the N numbers of its
    `shape`. The result is as that of `encode` for one item, (B, ...).
    """
    encoded = encode(Merged(shape, name=f"{prefix}merged")(items))
    mask = []
    if isinstance(encoded, list | tuple):
        encoded, *mask = encoded
    return ItemMean(name=f"{prefix}item_mean")(items, encoded, *mask)


@saved_as("Merged")
class Merged(layers.Layer):
    """Drops the flags of items, and joins batch and items.

    Shapes: (B, K, 1 + N) to (B * K, *shape) with N numbers.
    """

    def __init__(self, shape: tuple[int, ...], **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        self.shape = tuple(shape)

    def call(self, items):
        return ops.reshape(items[..., 1:], (-1, *self.shape))

    def compute_output_spec(self, items):
        return keras.KerasTensor((None, *self.shape), items.dtype)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}


@saved_as("ItemMean")
class ItemMean(layers.Layer):
    """Mean over the items of a row that are present, by the first number of each.

    Shapes: items (B, K, 1 + N) and their encodings (B * K, ...) to (B, ...). With a
    mask of tokens (B * K, L), a token is averaged over the items that have it; the
    result is the tokens and their mask (B, L).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})

    def call(self, items, encoded, mask=None):
        count = items.shape[1]
        weight = ops.not_equal(items[..., 0], 0)  # (B, K)
        shape = encoded.shape[1:]
        encoded = ops.reshape(encoded, (-1, count, *shape))
        weight = ops.reshape(weight, (-1, count, *[1] * len(shape)))
        if mask is not None:
            mask = ops.reshape(mask, (-1, count, shape[0]))
            weight = ops.logical_and(weight, mask[..., None])
        weight = ops.cast(weight, encoded.dtype)
        total = ops.sum(weight * encoded, axis=1)
        mean = total / ops.maximum(ops.sum(weight, axis=1), 1)
        if mask is None:
            return mean
        return mean, ops.any(ops.reshape(weight, (-1, count, shape[0])) > 0, axis=1)

    def compute_output_spec(self, items, encoded, mask=None):
        mean = keras.KerasTensor((None, *encoded.shape[1:]), encoded.dtype)
        if mask is None:
            return mean
        return mean, keras.KerasTensor((None, encoded.shape[1]), "bool")

    def compute_mask(self, *_, **__):
        return None
