"""Batch decoding in which a broken row becomes zeros instead of an error."""

from collections.abc import Callable

import tensorflow as tf


def decode_rows(
    decode: Callable[[tf.Tensor], tf.Tensor], data: tf.Tensor, row: tf.TensorSpec
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `decode` to each row; a row whose decoding fails becomes zeros.

    One `tf.data` pipeline per batch: rows decode in parallel, `ignore_errors` drops
    the broken ones, and the others are scattered to their indices. A sentinel row
    past the end keeps the batch from being empty. Core ops only.

    `decode` is () string -> a tensor like `row`; `data` (B,) strings, of which an empty
    one is an absent row and is not decoded. Returns (B, *row.shape) decoded rows, and
    (B,) bool: whether each was decoded.
    """
    rows = tf.size(data, out_type=tf.int64)
    index = tf.where(tf.not_equal(data, ""))[:, 0]
    sentinel_row = tf.zeros(row.shape, row.dtype)
    sentinel = tf.data.Dataset.from_tensors((rows, sentinel_row))

    @tf.autograph.experimental.do_not_convert
    def one(i, encoded):
        return i, tf.ensure_shape(decode(encoded), row.shape)

    decoded_index, decoded = (
        tf.data.Dataset.from_tensor_slices((index, tf.gather(data, index)))
        .map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
        .ignore_errors()
        .concatenate(sentinel)
        .batch(rows + 1)
        .get_single_element()
    )
    indices = decoded_index[:, None]
    row_shape = row.shape.as_list()
    shape = tf.concat([rows[None] + 1, tf.constant(row_shape, tf.int64)], axis=0)
    values = tf.scatter_nd(indices, decoded, shape)[:-1]
    ok = tf.scatter_nd(indices, tf.ones_like(decoded_index), rows[None] + 1)[:-1] > 0
    return tf.ensure_shape(values, [None, *row.shape]), tf.ensure_shape(ok, [None])
