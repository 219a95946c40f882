import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import VectorConfig
from mmkeras.modalities.row_graph import RowGraph, standardize
from mmkeras.modalities.vector.column import Vector


class Numbers(RowGraph):
    """Graph of strings of numbers, "a" and "b" of which are formats."""

    input_spec = decoded_spec = tf.TensorSpec([None], tf.float32)

    def __init__(self):
        super().__init__(Vector("x", VectorConfig()))
        self.traced = []

    def _decode(self, data, formats):
        self.traced.append(formats)
        return tf.strings.to_number(tf.strings.split(data, ","))


def test_a_row_is_decoded_by_a_graph_that_is_traced_once_per_formats():
    graph = Numbers()
    for data in ("1,2", "3,4", "5"):
        graph.decode_bytes(tf.constant(data))
    graph.decode_bytes(tf.constant("1"), ["a"])
    graph.decode_bytes(tf.constant("2"), ("a",))
    assert graph.traced == [(), ("a",)]


def test_the_formats_of_its_own_column_are_decoded():
    graph = Numbers()
    row = {"x": tf.constant("1,2"), "y": tf.constant("3")}
    assert graph.decode(row, {"x": ("b",), "y": ("a",)}).numpy().tolist() == [1, 2]
    assert graph.traced == [("b",)]


def test_an_absent_row_is_zeros_and_a_broken_one_an_error():
    graph = Numbers()
    assert graph.decode({"x": tf.constant("")}, {}).numpy().tolist() == [0]
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph.decode({"x": tf.constant("moo")}, {})


def test_broken_and_absent_rows_of_a_batch_are_zeros_and_only_broken_ones_exist():
    class Pairs(Numbers):
        input_spec = decoded_spec = tf.TensorSpec([2], tf.float32)

    rows = tf.constant(["1,2", "moo", "", "1,2,3"])
    values, usable = Pairs()({"x": rows, "y": rows})
    (name, (ok, exists)) = next(iter(usable.items()))
    assert values.numpy().tolist() == [[1, 2], [0, 0], [0, 0], [0, 0]]
    assert list(usable) == [name] == ["x"]
    assert ok.numpy().tolist() == [True, False, False, False]
    assert exists.numpy().tolist() == [True, True, False, True]


def test_numbers_are_scaled_and_cut_at_five_deviations():
    state = {"mean": [1.0, 0.0], "deviation": [2.0, 1.0]}
    values = tf.constant([[5.0, 0.5], [1e9, -1e9]])
    np.testing.assert_allclose(standardize(values, state), [[2, 0.5], [5, -5]])
