"""Preprocessing of columns of numbers, categories and dates in the graph."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.modalities.branch import Branch, BranchGraph
from mmkeras.modalities.column import State


class TabularGraph(BranchGraph):
    """Values by column to one (B, W) float32 tensor.

    The scaled numbers of all columns, 0 where absent; per column of numbers 1 where it
    is absent or unusable; and the indices of the categories. A row is not decoded: all
    ops take the batch, and none fails.
    """

    def __init__(self, branch: Branch, state: Mapping[str, State]):
        self.branch, self.state = branch, state
        self.input_spec = tf.TensorSpec([branch.width], tf.float32)

    def decode(self, values, formats):
        return dict(values)

    def finish_batch(self, batch, seed=None, augment=None):
        return self(batch)[0]

    def __call__(self, data):
        numbers, flags, categories, usable = [], [], [], {}
        for column in self.branch.columns:
            values, state = data[column.name], self.state[column.name]
            exists = column.exists(values)
            if column.width:
                scaled, is_usable = _numbers(column, values, state)
                numbers.append(scaled)
                flags.append(tf.cast(~is_usable, tf.float32)[:, None])
            else:
                index, is_usable = column.indices(values, state), exists
                categories.append(tf.cast(index, tf.float32)[:, None])
            usable[column.name] = (is_usable & exists, exists)
        x = tf.concat([*numbers, *flags, *categories], axis=1)
        return tf.ensure_shape(x, [None, *self.input_spec.shape]), usable


def _numbers(column, values, state):
    """Returns (B, K) scaled numbers, and (B,) bool: whether they are usable."""
    raw = tf.ensure_shape(column.numbers(values), [None, column.width])
    is_usable = tf.reduce_all(tf.math.is_finite(raw), axis=1)
    scaled = column.scale(raw, state)
    return tf.where(is_usable[:, None], scaled, 0.0), is_usable
