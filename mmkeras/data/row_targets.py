"""Targets of rows in the graph: from the label of a row to what the loss takes."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mmkeras.config import TrainConfig
from mmkeras.modalities.preprocessing_state import BINARY, GENERATE
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.schema import LABEL_SEPARATOR, TOKENS


def class_weights(rows: Sequence[int], config: TrainConfig) -> tuple[float, ...]:
    """Returns the weight of each class by its training rows, 1 on average over rows.

    Without weights the result is (). Source of "effective": Cui et al., 2019, https://arxiv.org/abs/1901.05555.
    """
    if config.class_weights == "none":
        return ()
    rows = np.maximum(rows, 1)
    counts = rows
    if config.class_weights == "effective":
        counts = (1 - config.class_beta**rows) / (1 - config.class_beta)
    weights = rows.sum() / (counts * (rows / counts).sum())
    return tuple(weights.tolist())


class RowTargets:
    """Graph functions from labels to targets, of a row and then of a batch.

    Args:
        preprocessor: That of the inputs.
        class_weights: Weight of each class in the loss; () is 1 for all.
    """

    def __init__(self, preprocessor: Preprocessor, class_weights: Sequence[float] = ()):
        self._state, self._weights = preprocessor.state, class_weights
        self._tokenizer = preprocessor.tokenizer

    def decode(self, label: tf.Tensor) -> tf.Tensor:
        """Returns the target of a row: () string to (C,) float32.

        In regression it is (1,), the standardised number; and the texts of a generator
        are a () string still.
        """
        state = self._state
        if state.task == GENERATE:
            return label
        if scale := state.label_scale:
            number = tf.strings.to_number(label, tf.float64)
            standardized = (number - scale.mean) / scale.deviation
            return tf.cast(standardized, tf.float32)[None]
        names = tf.strings.split(label, LABEL_SEPARATOR)
        classes = tf.constant(state.classes)
        is_label = tf.reduce_any(names[:, None] == classes[None, :], axis=0)
        return tf.cast(is_label, tf.float32)

    def finish(
        self, target: tf.Tensor, weight: tf.Tensor, seed: tf.Tensor | None
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """Returns more inputs of the model, the target of a batch, and its weights.

        `target` has the results of `decode`, (B, ...); `weight` is (B,). A generator
        reads the tokens before each token of the target, (B, L) int32, of the first
        reference, or with a seed (2,) of a random one.
        """
        if self._state.task == GENERATE:
            ids = self._tokenizer.ids(_choose_reference(target, seed))
            return {TOKENS: ids[:, :-1]}, ids[:, 1:], weight
        if self._weights:
            each = target * tf.constant(self._weights, tf.float32)
            labels = tf.reduce_sum(target, axis=1)
            mean = tf.reduce_sum(each, axis=1) / tf.maximum(labels, 1.0)
            weight *= tf.where(labels > 0, mean, 1.0)  # 1 for a row of no class
        return {}, target[:, 1:] if self._state.task == BINARY else target, weight


def _choose_reference(labels, seed):
    """Returns one text per row of (B,) labels."""
    references = tf.strings.split(labels, LABEL_SEPARATOR)
    first, counts = references.row_starts(), references.row_lengths()
    if seed is not None:
        uniform = tf.random.stateless_uniform(tf.shape(counts), seed)
        number = tf.cast(uniform * tf.cast(counts, tf.float32), tf.int64)
        first += tf.minimum(number, counts - 1)
    return tf.gather(references.flat_values, first)
