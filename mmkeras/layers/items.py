"""Encoding of several items per row: each by itself, and their mean."""

import keras
from keras import layers, ops

from mmkeras.layers.saving import saved_as


def encode_items(
    encoder: keras.Model, shape: tuple[int, ...], dtype: str, name: str
) -> keras.Model:
    """Builds a model that applies an encoder to each item and averages the results.

    The input is (B, K, ...), zeros where a row has fewer items. The output is that of
    the encoder for one item: (B, D), tokens (B, L, D), or tokens and their mask.

    Example:
        encode_items(encoder, (3, 64, 64, 3), "uint8", "photos_encoder")
    """
    items = keras.Input(shape, dtype=dtype, name="items")
    flat = Merged(name="merged")(items)
    encoded = encoder(flat)
    mask = []
    if isinstance(encoded, list | tuple):
        encoded, *mask = encoded
    return keras.Model(
        items, ItemMean(name="item_mean")(items, encoded, *mask), name=name
    )


@saved_as("Merged")
class Merged(layers.Layer):
    """Joins the first two dimensions: (B, K, ...) to (B * K, ...)."""

    def __init__(self, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})

    def call(self, items):
        return ops.reshape(items, (-1, *items.shape[2:]))

    def compute_output_spec(self, items):
        return keras.KerasTensor((None, *items.shape[2:]), items.dtype)


@saved_as("ItemMean")
class ItemMean(layers.Layer):
    """Mean over the items of a row that are present: not only zeros.

    Shapes: items (B, K, ...) and their encodings (B * K, ...) to (B, ...). With a mask
    of tokens (B * K, L), a token is averaged over the items that have it; the result
    is the tokens and their mask (B, L).
    """

    def __init__(self, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})

    def call(self, items, encoded, mask=None):
        count = items.shape[1]
        flat = ops.reshape(items, (-1, count, _size(items.shape[2:])))
        weight = ops.any(ops.not_equal(flat, 0), axis=2)  # (B, K)
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


def _size(shape) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
