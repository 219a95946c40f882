import numpy as np
import tensorflow as tf

from mmkeras.config import VectorConfig
from mmkeras.modalities.vector.column import Vector
from tests.modalities.encoded_media import encode_vector

COLUMN = Vector("numbers", VectorConfig(), width=2)
STATE = {"width": 2, "mean": [1.0, 0.0], "deviation": [2.0, 1.0]}


def test_a_vector_is_standardized_and_others_are_zeros():
    graph = COLUMN.graph({"numbers": STATE})
    assert graph.input_spec == tf.TensorSpec([2], tf.float32)
    rows = [encode_vector(np.float32(x)) for x in ([5, 3], [5, 3, 1])]
    values, usable = graph({"numbers": tf.constant([*rows, b""])})
    assert values.numpy().tolist() == [[2, 3], [0, 0], [0, 0]]
    ok, exists = (x.numpy().tolist() for x in usable["numbers"])
    assert ok == [True, False, False] and exists == [True, True, False]


def test_before_the_fit_a_vector_keeps_its_numbers():
    graph = COLUMN.graph({"numbers": {}})
    row = graph.decode_bytes(encode_vector(np.float32([5, 3])))
    assert graph.finish_row(row).numpy().tolist() == [5, 3]
