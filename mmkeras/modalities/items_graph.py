"""Preprocessing of several files per cell in the graph."""

from collections.abc import Callable

import tensorflow as tf

from mmkeras.modalities.byte_ops import require
from mmkeras.modalities.items import unpack_in_graph
from mmkeras.modalities.row_graph import RowGraph


class ItemsGraph(RowGraph):
    """Graph of up to `count` files per row: (B, count, ...), zeros where none is.

    One broken file makes the row broken.
    """

    def __init__(self, graph: RowGraph, count: int):
        super().__init__(graph.branch)
        self._graph, self._count = graph, count
        self.resources = graph.resources
        spec = graph.input_spec
        self.decoded_spec = tf.TensorSpec([count, *spec.shape], spec.dtype)
        self.input_spec = self.decoded_spec

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
        missing = self._count - tf.shape(items)[0]
        padding = [[0, missing], *[[0, 0]] * (items.shape.rank - 1)]
        return tf.ensure_shape(tf.pad(items, padding), self.decoded_spec.shape)

    def finish_batch(self, batch, seed=None, augment=None) -> tf.Tensor:
        shape = self._graph.input_spec.shape
        flat = tf.reshape(batch, [-1, *shape])
        finished = self._graph.finish_batch(flat, seed, augment)
        is_file = tf.reduce_any(tf.reshape(flat != 0, [tf.shape(flat)[0], -1]), axis=1)
        mask = tf.reshape(is_file, [-1, *[1] * len(shape)])
        finished = tf.where(mask, finished, tf.zeros_like(finished))
        return tf.reshape(finished, [-1, self._count, *shape])

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
