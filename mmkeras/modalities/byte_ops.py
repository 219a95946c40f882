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


def require(condition: tf.Tensor, reason: str):
    """Returns a scope whose ops run only where the () bool `condition` holds.

    The bare op: `tf.debugging.Assert` adds a branch, which costs more than decoding
    a small picture.

    Raises:
        tf.errors.InvalidArgumentError: It does not hold; the message has the reason.
    """
    check = tf.raw_ops.Assert(condition=condition, data=[tf.constant(reason)])
    return tf.control_dependencies([] if check is None else [check])
