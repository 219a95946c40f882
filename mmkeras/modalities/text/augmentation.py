"""Word dropout of training texts, drawn from a seed."""

import tensorflow as tf

from mmkeras.config import AugmentConfig


def drop_tokens(
    tokens: tf.RaggedTensor, seed: tf.Tensor, config: AugmentConfig
) -> tf.RaggedTensor:
    """Drops each token with chance `word_dropout`: (B, L) ragged to the same."""
    kept = (
        tf.random.stateless_uniform(tf.shape(tokens.flat_values), seed)
        >= config.word_dropout
    )
    return tf.ragged.boolean_mask(tokens, tokens.with_flat_values(kept))
