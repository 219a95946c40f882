"""SpecAugment masks of training audio, from a seed."""

import tensorflow as tf

from mmkeras.config import AugmentConfig


def mask_frames(frames: tf.Tensor, seed: tf.Tensor, config: AugmentConfig) -> tf.Tensor:
    """Replaces one run of bands and one of frames by the mean of all frames.

    Shapes: (T, F) float32 to the same; seed (2,) int32.

    Source: Park et al., 2019, https://arxiv.org/abs/1904.08779 (SpecAugment), with
    one mask per axis and no time warping.
    """
    steps, bands = tf.shape(frames)[0], frames.shape[1]
    u = tf.random.stateless_uniform([4], seed)
    mean = tf.reduce_mean(frames)

    def run(size, limit, start, length):  # (size,) bool
        length = tf.cast(tf.cast(limit, tf.float32) * length + 0.5, tf.int32)
        first = tf.cast(tf.cast(size - length + 1, tf.float32) * start, tf.int32)
        index = tf.range(size)
        return (index >= first) & (index < first + length)

    longest = config.spec_frames * tf.cast(steps, tf.float32)
    mask = run(bands, min(config.spec_bands, bands), u[0], u[1])[None, :]
    mask |= run(steps, longest, u[2], u[3])[:, None]
    return tf.where(mask, mean, frames)
