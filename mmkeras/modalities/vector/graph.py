"""Preprocessing of a column of vectors in the graph."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.modalities.branch import BranchColumn
from mmkeras.modalities.row_graph import RowGraph, standardize
from mmkeras.modalities.vector.decoding import decode_vector


class VectorGraph(RowGraph):
    """Graph from .npy files to standardized vectors."""

    def __init__(self, branch: BranchColumn, state: Mapping):
        super().__init__(branch)
        self._state = state
        self.decoded_spec = self.input_spec = tf.TensorSpec([branch.width], tf.float32)

    def _decode(self, data, formats):
        return decode_vector(data, self.branch.width)

    def finish_row(self, decoded, seed=None, augment=None) -> tf.Tensor:
        """Standardizes the vector, once the column is fitted."""
        return standardize(decoded, self._state) if "mean" in self._state else decoded
