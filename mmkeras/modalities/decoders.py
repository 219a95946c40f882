"""Encoded media -> pixels and waves as the model sees and hears them, for Python."""

import numpy as np
import tensorflow as tf

from mmkeras.config import Config
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.decoding import decode_image


class MediaDecoders:
    """Calls the decoding functions of the graph; each is traced once."""

    def __init__(self, config: Config):
        spec = [tf.TensorSpec([], tf.string)]
        self._pixels = tf.function(
            lambda data: decode_image(data, config.image), spec, autograph=False
        )
        self._wave = tf.function(
            lambda data: decode_wave(data, config.audio), spec, autograph=False
        )

    def pixels(self, data: bytes) -> np.ndarray:
        """Returns (S, S, 3) uint8, resized to the model's square.

        Raises:
            BadMedia: The graph cannot decode it.
        """
        return _decoded(self._pixels, data, "picture")

    def wave(self, data: bytes) -> np.ndarray:
        """Returns (S,) float32 at `config.audio.rate_hz`, mono, cut to the clip.

        Raises:
            BadMedia: The graph cannot decode it.
        """
        return _decoded(self._wave, data, "sound")


def _decoded(decode, data: bytes, what: str) -> np.ndarray:
    try:
        return decode(tf.constant(data)).numpy()
    except tf.errors.OpError as error:
        words = error.message.split("}} ")[-1].split("\n")[0][:120]
        raise Unreadable(f"the {what} cannot be decoded: {words.strip()}") from None
