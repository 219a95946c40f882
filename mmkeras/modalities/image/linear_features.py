"""Features of images for the linear baseline."""

import numpy as np
import tensorflow as tf

_IMAGE_PX = 16


def small_pixels(pixels: np.ndarray) -> np.ndarray:
    """Returns (B, 768) float32 pixels of (B, S, S, 3) images, resized to 16 px."""
    small = tf.image.resize(pixels, [_IMAGE_PX, _IMAGE_PX], method="area")
    return small.numpy().reshape(len(small), -1)
