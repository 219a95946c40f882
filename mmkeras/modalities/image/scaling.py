"""Ranges of pixels that image encoders take."""

import keras
from keras import ops
from keras.applications import imagenet_utils

from mmkeras.config.image import PixelScale

# Names of the ranges in Keras.
_MODES = {"-1..1": "tf", "imagenet": "torch", "imagenet_bgr": "caffe"}


def scale_pixels(pixels: keras.KerasTensor, scale: PixelScale) -> keras.KerasTensor:
    """Scales RGB in 0..255, (B, S, S, 3) uint8 or float32, to float32 of a range.

    Source: `preprocess_input` of keras.applications.

    Example:
        x = scale_pixels(pixels, "-1..1")
    """
    x = ops.cast(pixels, "float32")
    if scale == "0..255":
        return x
    if scale == "0..1":
        return x / 255
    return imagenet_utils.preprocess_input(x, mode=_MODES[scale])
