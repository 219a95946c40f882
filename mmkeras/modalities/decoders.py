"""Decoders from encoded media to NumPy arrays, as the served graph decodes them."""

import re

import numpy as np
import tensorflow as tf

from mmkeras.config import Config
from mmkeras.errors import one_line
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.decoding import decode_image

# In TensorFlow's messages, such as "jpeg::Uncompress failed. Invalid JPEG data ...".
_FORMAT = re.compile(r"jpeg|png|gif|bmp", re.IGNORECASE)


class MediaDecoders:
    """The decoding functions of the graph for Python code, each traced once."""

    def __init__(self, config: Config):
        spec = [tf.TensorSpec([], tf.string)]
        self._pixels = tf.function(
            lambda data: decode_image(data, config.image), spec, autograph=False
        )
        self._wave = tf.function(
            lambda data: decode_wave(data, config.audio), spec, autograph=False
        )

    def pixels(self, data: bytes) -> np.ndarray:
        """Returns (S, S, 3) uint8 of the model's size, or raises Unreadable."""
        return _decode(self._pixels, data, "image")

    def wave(self, data: bytes) -> np.ndarray:
        """Returns (S,) float32 of the model's rate and clip, or raises Unreadable."""
        return _decode(self._wave, data, "audio")


def _decode(function, data, kind):
    try:
        return function(tf.constant(data)).numpy()
    except tf.errors.OpError as error:
        reason = one_line(error.message.split("}} ")[-1].split("\n")[0], 120)
        formats = {name.upper() for name in _FORMAT.findall(reason)}
        if len(formats) == 1:  # else none of all formats fits
            reason = f"truncated or damaged {formats.pop()}"
        raise Unreadable(f"the {kind} cannot be decoded: {reason}") from None
