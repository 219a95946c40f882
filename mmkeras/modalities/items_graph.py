"""Preprocessing of several files per cell in the graph."""

from collections.abc import Callable

import tensorflow as tf

from mmkeras.modalities.byte_ops import require
from mmkeras.modalities.items import unpack_in_graph
from mmkeras.modalities.row_graph import RowGraph


class ItemsGraph(RowGraph):
    """Graph of up to `count` files per row: (B, count, 1 + N), zeros where none is.

    Of each file the first number is 1; the N others are the input of the model for it.
    So a black image differs from none. One broken file makes the row broken.
    """

    def __init__(self, graph: RowGraph, count: int):
        super().__init__(graph.branch)
        self._graph, self._count = graph, count
        self.resources = graph.resources
        spec = graph.input_spec
        shape = [count, 1 + spec.shape.num_elements()]
        self.decoded_spec = self.input_spec = tf.TensorSpec(shape, spec.dtype)

    def _decode(self, data, formats):
        files, spec = unpack_in_graph(data), self._graph.input_spec
        with require(tf.size(files) <= self._count, f"more than {self._count} files"):
            files = tf.identity(files)
        items = tf.map_fn(
            lambda file: tf.ensure_shape(
                self._graph.finish_row(self._graph.decode_bytes(file, formats)),
                spec.shape,
            ),
            files,
            fn_output_signature=spec,
        )
        items = self._with_flags(items, tf.ones([tf.size(files), 1], spec.dtype))
        padding = [[0, self._count - tf.size(files)], [0, 0]]
        return tf.ensure_shape(tf.pad(items, padding), self.decoded_spec.shape)

    def _with_flags(self, items, flags):
        """Returns (n, 1 + N) of (n, ...) items and (n, 1) flags."""
        size = self._graph.input_spec.shape.num_elements()
        return tf.concat([flags, tf.reshape(items, [-1, size])], axis=1)

    def finish_batch(self, batch, seed=None, augment=None) -> tf.Tensor:
        shape = self._graph.input_spec.shape
        rows = tf.reshape(batch, [-1, batch.shape[2]])
        flags, items = rows[:, :1], tf.reshape(rows[:, 1:], [-1, *shape])
        finished = self._graph.finish_batch(items, seed, augment)
        is_file = tf.reshape(flags != 0, [-1, *[1] * len(shape)])
        finished = tf.where(is_file, finished, tf.zeros_like(finished))
        return tf.reshape(self._with_flags(finished, flags), [-1, *batch.shape[1:]])

    def decoded_bytes(self, encoded_bytes: int) -> int:
        return self._count * self._graph.decoded_bytes(encoded_bytes)


def vectors_of_items(
    vector: Callable, width: int, is_sequence: bool
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from a () value to the vectors of all its files, (N, width).

    `vector` gives (width,), or (T, width) frames, of one file.
    """

    def vectors(data):
        files = unpack_in_graph(data)
        if not is_sequence:
            spec = tf.TensorSpec([width], tf.float32)
            return tf.map_fn(vector, files, fn_output_signature=spec)
        spec = tf.RaggedTensorSpec([None, width], tf.float32, ragged_rank=0)
        return tf.map_fn(vector, files, fn_output_signature=spec).flat_values

    return vectors
