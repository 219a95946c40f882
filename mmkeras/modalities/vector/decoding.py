"""Decoding of .npy vectors in the graph."""

import tensorflow as tf

from mmkeras.modalities.byte_ops import bytes_at, numbers_at, require

# By the descr of the header; `prepare_vector` transcodes all other types.
_DTYPES = {"<f4": tf.float32, "<f8": tf.float64, "<f2": tf.float16}


def decode_vector(data: tf.Tensor, width: int) -> tf.Tensor:
    """Decodes one .npy file of little-endian floats: () string -> (width,) float32.

    The file is of format 1.0 and of shape (width,) or (1, width).

    Raises:
        tf.errors.InvalidArgumentError: Another format or width, or not finite.

    Source: the format's text, numpy/lib/format.py, NumPy enhancement proposal 1.
    """
    (header_bytes,) = numbers_at(data, 8, 1, tf.int16)
    header_bytes = tf.cast(header_bytes, tf.int32)
    header = bytes_at(data, 10, 512)
    content = bytes_at(data, 10 + header_bytes, 8 * width + 1)
    is_vector = tf.strings.regex_full_match(
        header, rf"(?s)\C*'shape': \((1, )?{width},?\)\C*"
    )
    vector = tf.zeros([0])
    for descr, dtype in _DTYPES.items():
        matches = is_vector & tf.strings.regex_full_match(
            header, rf"(?s)\C*'descr': '{descr}'\C*"
        )
        matches &= tf.strings.length(content) == width * dtype.size
        vector = tf.cond(
            matches,
            lambda dtype=dtype: tf.cast(tf.io.decode_raw(content, dtype), tf.float32),
            lambda vector=vector: vector,
        )
    is_valid = (bytes_at(data, 0, 6) == b"\x93NUMPY") & (tf.size(vector) == width)
    is_valid &= tf.reduce_all(tf.math.is_finite(vector))
    with require(is_valid, f"not a .npy of {width} finite floats"):
        return tf.ensure_shape(tf.identity(vector), [width])
