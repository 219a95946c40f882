"""SpecAugment masks of training audio, drawn from a seed."""

import tensorflow as tf

from mmkeras.config import AugmentConfig


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
