"""Preprocessing of a branch whose rows are decoded one by one from encoded bytes."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import tensorflow as tf

from mmkeras.modalities.branch import BranchColumn, BranchGraph
from mmkeras.modalities.preprocessing_state import MAX_DEVIATIONS
from mmkeras.modalities.row_safe import decode_rows


class RowGraph(BranchGraph):
    """Graph of a column of files or vectors; a broken row becomes zeros.

    Subclasses set `decoded_spec`, that of a decoded row, in which None is a number of
    frames or samples.
    """

    decoded_spec: tf.TensorSpec

    def __init__(self, branch: BranchColumn):
        self.branch = branch
        self._decoders = {}  # each format's graph is traced once

    @abstractmethod
    def _decode(self, data: tf.Tensor, formats: Sequence[str]) -> tf.Tensor:
        """Decodes () string; `formats` are those that can occur, or () for all."""

    def decode_bytes(self, data: tf.Tensor, formats: Sequence[str] = ()) -> tf.Tensor:
        """Decodes one row that is not absent: () string to `decoded_spec`.

        Raises:
            tf.errors.InvalidArgumentError: The row is broken.
        """
        key, spec = tuple(formats), [tf.TensorSpec([], tf.string)]
        if key not in self._decoders:
            self._decoders[key] = tf.function(
                lambda data: self._decode(data, key), spec, autograph=False
            )
        return self._decoders[key](data)

    def decode(self, values: Mapping[str, tf.Tensor], formats) -> tf.Tensor:
        data, spec = values[self.branch.name], self.decoded_spec
        decoded = tf.cond(
            data != "",
            lambda: self.decode_bytes(data, formats.get(self.branch.name, ())),
            lambda: tf.zeros([size or 1 for size in spec.shape], spec.dtype),
        )
        return tf.ensure_shape(decoded, spec.shape)

    def __call__(self, data):
        strings = data[self.branch.name]

        def row(encoded):
            return self.finish_row(self.decode_bytes(encoded))

        values, ok = decode_rows(row, strings, self.input_spec)
        return self.finish_batch(values), {self.branch.name: (ok, strings != "")}


def standardize(values: tf.Tensor, state: Mapping) -> tf.Tensor:
    """Scales numbers by the mean and deviation of the training rows, clipped to ±5."""
    z = (values - tf.constant(state["mean"])) / tf.constant(state["deviation"])
    return tf.clip_by_value(z, -MAX_DEVIATIONS, MAX_DEVIATIONS)
