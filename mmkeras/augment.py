"""Random changes of training rows, drawn from a seed: the same seed, the same change.

Batches of pictures and of tokens, and single mel frames; shapes stay as they are.
"""

import tensorflow as tf

from mmkeras.config import AugmentConfig


def augment_images(
    pixels: tf.Tensor, seed: tf.Tensor, config: AugmentConfig
) -> tf.Tensor:
    """Mirrors, crops and recolours: (B, S, S, 3) uint8 to the same; seed (2,) int32."""
    seeds = tf.random.split(seed, 2)
    x = tf.cast(pixels, tf.float32)
    if config.flip or config.crop:
        x = _crop_and_flip(x, seeds[0], config)
    if config.colour:
        x = _recolour(x, seeds[1], config.colour)
    return tf.saturate_cast(tf.round(x), tf.uint8)


def _crop_and_flip(x, seed, config):
    """Cuts away up to `crop` of the side, resizes back, mirrors half of them."""
    rows, size = tf.shape(x)[0], x.shape[1]
    u = tf.random.stateless_uniform([4, rows], seed)
    zoom = 1 - config.crop * u[0]
    left, top = (1 - zoom) * size * u[1], (1 - zoom) * size * u[2]
    mirror = (u[3] < 0.5) & config.flip
    step = tf.where(mirror, -zoom, zoom)
    left = tf.where(mirror, left + zoom * (size - 1), left)
    zero = tf.zeros([rows])
    # Each target pixel (x, y) comes from (step * x + left, zoom * y + top).
    matrix = tf.stack([step, zero, left, zero, zoom, top, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=matrix,
        output_shape=[size, size],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def _recolour(x, seed, most):
    """Changes contrast, saturation and brightness, each by up to `most`."""
    u = most * tf.random.stateless_uniform([3, tf.shape(x)[0], 1, 1, 1], seed, -1, 1)
    mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
    x = mean + (x - mean) * (1 + u[0])
    gray = tf.reduce_mean(x, axis=3, keepdims=True)
    return gray + (x - gray) * (1 + u[1]) + 255 * u[2]


def mask_frames(frames: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Masks one run of bands and one of frames by the sound's own mean.

    Shapes: (T, F) float32 to the same; seed (2,) int32.

    Source: Park et al., 2019, https://arxiv.org/abs/1904.08779 (SpecAugment), with
    one mask each way and no time warping.
    """
    steps, bands = tf.shape(frames)[0], frames.shape[1]
    u = tf.random.stateless_uniform([4], seed)
    mean = tf.reduce_mean(frames)

    def masked(size, most, start, length):  # (size,) bool
        length = tf.cast(tf.cast(most, tf.float32) * length + 0.5, tf.int32)
        first = tf.cast(tf.cast(size - length + 1, tf.float32) * start, tf.int32)
        place = tf.range(size)
        return (place >= first) & (place < first + length)

    longest = config.spec_frames * tf.cast(steps, tf.float32)
    hidden = masked(bands, min(config.spec_bands, bands), u[0], u[1])[None, :]
    hidden |= masked(steps, longest, u[2], u[3])[:, None]
    return tf.where(hidden, mean, frames)


def drop_tokens(
    tokens: tf.RaggedTensor, seed: tf.Tensor, config: AugmentConfig
) -> tf.RaggedTensor:
    """Drops each token with chance `word_dropout`: (B, L) ragged to the same."""
    kept = (
        tf.random.stateless_uniform(tf.shape(tokens.flat_values), seed)
        >= config.word_dropout
    )
    return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(kept))
