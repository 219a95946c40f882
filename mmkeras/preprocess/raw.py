"""Reads numbers out of encoded bytes inside the graph."""

import tensorflow as tf


def bytes_at(data: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns up to `count` bytes of the () string `data`; "" past its end.

    `tf.strings.substr` alone fails past the end, with all bytes in its message.
    """
    return tf.strings.substr(data, tf.minimum(at, tf.strings.length(data)), count)


def numbers_at(
    data: tf.Tensor,
    at: tf.Tensor | int,
    count: int,
    dtype: tf.DType,
    little_endian: bool = True,
) -> list[tf.Tensor]:
    """Reads `count` unsigned numbers of `dtype`'s width as () int64.

    Raises:
        tf.errors.InvalidArgumentError: The data ends before.
    """
    raw = bytes_at(data, at, count * dtype.size)
    numbers = tf.cast(
        tf.io.decode_raw(raw, dtype, little_endian=little_endian), tf.int64
    )
    unsigned = tf.bitwise.bitwise_and(numbers, 256**dtype.size - 1)
    return tf.unstack(tf.ensure_shape(unsigned, [count]))
