"""TensorFlow ops that read numbers from encoded bytes."""

import tensorflow as tf


def bytes_at(data: tf.Tensor, offset: tf.Tensor | int, count: int) -> tf.Tensor:
    """Returns up to `count` bytes of the () string `data`; "" past its end.

    `tf.strings.substr` alone fails past the end, with all bytes in its message.
    """
    return tf.strings.substr(data, tf.minimum(offset, tf.strings.length(data)), count)


def numbers_at(
    data: tf.Tensor,
    offset: tf.Tensor | int,
    count: int,
    dtype: tf.DType,
    little_endian: bool = True,
) -> list[tf.Tensor]:
    """Reads `count` unsigned numbers of `dtype`'s width as () int64."""
    raw = bytes_at(data, offset, count * dtype.size)
    signed = tf.io.decode_raw(raw, dtype, little_endian=little_endian)
    numbers = tf.cast(signed, tf.int64)
    unsigned = tf.bitwise.bitwise_and(numbers, 256**dtype.size - 1)
    return tf.unstack(tf.ensure_shape(unsigned, [count]))


def require(condition: tf.Tensor, reason: str):
    """Returns a scope whose ops run only if the () bool `condition` holds.

    The bare op: `tf.debugging.Assert` adds a branch, which costs more than decoding
    a small image.

    Raises:
        tf.errors.InvalidArgumentError: The condition is false; with `reason`.
    """
    check = tf.raw_ops.Assert(condition=condition, data=[tf.constant(reason)])
    return tf.control_dependencies([] if check is None else [check])
