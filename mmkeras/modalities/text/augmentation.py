"""Word dropout of training texts, from a seed."""

import tensorflow as tf

from mmkeras.config import AugmentConfig


def drop_tokens(
    tokens: tf.RaggedTensor, seed: tf.Tensor, config: AugmentConfig
) -> tf.RaggedTensor:
    """Drops tokens with probability `word_dropout`: (B, L) ragged to the same."""
    draws = tf.random.stateless_uniform(tf.shape(tokens.flat_values), seed)
    mask = tokens.with_flat_values(draws >= config.word_dropout)
    return tf.ragged.boolean_mask(tokens, mask)
