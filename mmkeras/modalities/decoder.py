"""Decoder from encoded media to NumPy arrays, as the served graph decodes them."""

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mmkeras.errors import one_line
from mmkeras.modalities.file import Unreadable

# In TensorFlow's messages, such as "jpeg::Uncompress failed. Invalid JPEG data ...".
_FORMAT = re.compile(r"jpeg|png|gif|bmp", re.IGNORECASE)


class Decoder:
    """A decoding function of the graph for Python code, traced once.

    Example:
        decode = Decoder(lambda data: decode_image(data, ImageConfig()), "image")
        pixels = decode(png)  # (224, 224, 3) uint8
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], kind: str):
        """`function` decodes a () string; `kind` is the medium in errors."""
        spec = [tf.TensorSpec([], tf.string)]
        self._function = tf.function(function, spec, autograph=False)
        self._kind = kind

    def __call__(self, data: bytes) -> np.ndarray:
        """Decodes one file, or raises Unreadable."""
        try:
            return self._function(tf.constant(data)).numpy()
        except tf.errors.OpError as error:
            reason = one_line(error.message.split("}} ")[-1].split("\n")[0], 120)
            formats = {name.upper() for name in _FORMAT.findall(reason)}
            if len(formats) == 1:  # else none of all formats fits
                reason = f"truncated or damaged {formats.pop()}"
            raise Unreadable(f"the {self._kind} cannot be decoded: {reason}") from None
