"""Tensors of the client against those of TensorFlow."""

import math

import numpy as np
import pytest
import tensorflow as tf

from serving.client import tensors
from serving.client.descriptors import message_class

TensorProto = message_class("tensorflow.TensorProto")


def convert(proto):
    """Returns TensorFlow's message as one of the client."""
    return TensorProto.FromString(proto.SerializeToString())


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([b"a", b"", b"\xff\0"], object), ([0.5, math.nan, 3.0], np.float32)],
)
def test_tensorflow_reads_the_values(values, dtype):
    tensor = TensorProto()
    tensors.fill(tensor, values)
    proto = type(tf.make_tensor_proto([0.0])).FromString(tensor.SerializeToString())
    array = tf.make_ndarray(proto)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.array(values, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_matrix_is_read_from_values_and_from_content(dtype, is_packed):
    array = np.arange(6, dtype=dtype).reshape(2, 3) / 8
    proto = tf.make_tensor_proto(array)
    if not is_packed:
        field = "float_val" if dtype == np.float32 else "double_val"
        getattr(proto, field).extend(array.ravel().tolist())
        proto.tensor_content = b""
    assert bool(proto.tensor_content) == is_packed
    assert tensors.matrix(convert(proto)) == array.tolist()


def test_one_value_fills_a_matrix_and_an_empty_matrix_has_no_rows():
    proto = tf.make_tensor_proto(0.5, shape=[2, 2])
    assert tensors.matrix(convert(proto)) == [[0.5, 0.5], [0.5, 0.5]]
    empty = tf.make_tensor_proto(np.zeros((0, 3), np.float32))
    assert tensors.matrix(convert(empty)) == []


def test_strings_are_decoded_whatever_their_bytes():
    proto = tf.make_tensor_proto([b"caf\xc3\xa9", b"\xff"])
    assert tensors.strings(convert(proto)) == ["caf\xe9", "\ufffd"]


def test_a_matrix_of_strings_is_read_by_rows():
    proto = convert(tf.make_tensor_proto([[b"a", b"b\xff"], [b"", b"d"]]))
    assert tensors.string_matrix(proto) == [["a", "b\ufffd"], ["", "d"]]


@pytest.mark.parametrize(
    ("read", "value", "change", "message"),
    [
        (tensors.floats, [b"a"], {}, "type 7 instead of floats"),
        (tensors.strings, [1.0], {}, "type 1 instead of strings"),
        (tensors.matrix, [1.0], {}, "instead of a matrix"),
        (tensors.matrix, np.zeros((2, 0)), {}, "instead of a matrix"),
        (tensors.string_matrix, [b"a"], {}, "instead of a matrix"),
        (tensors.string_matrix, [[1.0]], {}, "type 1 instead of strings"),
        (tensors.floats, [1.0, 2.0], {"tensor_content": b"abc"}, "3 bytes instead"),
        (tensors.strings, [b"a", b"b"], {"string_val": [b"a"]}, "1 strings instead"),
    ],
)
def test_a_wrong_or_incomplete_tensor_is_an_error(read, value, change, message):
    proto = convert(tf.make_tensor_proto(value))
    for field in change:
        proto.ClearField(field)
    proto.MergeFrom(TensorProto(**change))
    with pytest.raises(ValueError, match=message):
        read(proto)


def test_a_small_message_cannot_declare_a_huge_tensor():
    proto = convert(tf.make_tensor_proto(0.5, shape=[2]))
    proto.tensor_shape.dim[0].size = 2**40
    with pytest.raises(ValueError, match="elements"):
        tensors.floats(proto)


@pytest.mark.parametrize("read", [tensors.floats, tensors.strings])
def test_a_tensor_cannot_declare_many_dimensions(read):
    proto = convert(tf.make_tensor_proto([b"a"] if read is tensors.strings else [0.5]))
    for _ in range(254):
        proto.tensor_shape.dim.add(size=1)
    with pytest.raises(ValueError, match="more than 254 dimensions"):
        read(proto)
