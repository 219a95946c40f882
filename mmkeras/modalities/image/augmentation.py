"""Random flips, crops and color changes of training images, from a seed."""

import tensorflow as tf

from mmkeras.config import AugmentConfig


def augment_images(
    pixels: tf.Tensor, seed: tf.Tensor, config: AugmentConfig
) -> tf.Tensor:
    """Flips, crops and recolors: (B, S, S, 3) uint8 to the same; seed (2,) int32."""
    seeds = tf.random.split(seed, 2)
    x = tf.cast(pixels, tf.float32)
    if config.flip or config.crop:
        x = _crop_and_flip(x, seeds[0], config)
    if config.colour:
        x = _recolor(x, seeds[1], config.colour)
    return tf.saturate_cast(tf.round(x), tf.uint8)


def _crop_and_flip(x, seed, config):
    """Cuts away up to `crop` of the side, resizes back, flips half of the images."""
    rows, size = tf.shape(x)[0], x.shape[1]
    u = tf.random.stateless_uniform([4, rows], seed)
    zoom = 1 - config.crop * u[0]
    left, top = (1 - zoom) * size * u[1], (1 - zoom) * size * u[2]
    is_flipped = (u[3] < 0.5) & config.flip
    step = tf.where(is_flipped, -zoom, zoom)
    left = tf.where(is_flipped, left + zoom * (size - 1), left)
    zero = tf.zeros([rows])
    # Each target pixel (x, y) is sampled at (step * x + left, zoom * y + top).
    matrix = tf.stack([step, zero, left, zero, zoom, top, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=matrix,
        output_shape=[size, size],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def _recolor(x, seed, limit):
    """Changes contrast, saturation and brightness, each by up to `limit`."""
    u = limit * tf.random.stateless_uniform([3, tf.shape(x)[0], 1, 1, 1], seed, -1, 1)
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    x = mean + (x - mean) * (1 + u[0])
    gray = tf.reduce_mean(x, axis=3, keepdims=True)
    return gray + (x - gray) * (1 + u[1]) + 255 * u[2]
