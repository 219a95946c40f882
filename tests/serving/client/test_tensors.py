"""Tensors as the stubs' own library makes and reads them."""

import numpy as np
import pytest
import tensorflow as tf

from serving.client import tensors
from serving.client.descriptors import message


def ours(proto):
    """The same tensor as a message of the client."""
    return message("tensorflow.TensorProto").FromString(proto.SerializeToString())


def test_strings_are_what_tensorflow_reads():
    tensor = message("tensorflow.TensorProto")()
    tensors.fill_strings(tensor, [b"a", b"", b"\xff\0"])
    proto = tf.make_tensor_proto([0.0]).__class__.FromString(tensor.SerializeToString())
    assert tf.make_ndarray(proto).tolist() == [b"a", b"", b"\xff\0"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("packed", [False, True])
def test_a_matrix_is_read_from_values_and_from_content(dtype, packed):
    array = np.arange(6, dtype=dtype).reshape(2, 3) / 8
    proto = tf.make_tensor_proto(array)
    if not packed:
        field = "float_val" if dtype == np.float32 else "double_val"
        getattr(proto, field).extend(array.ravel().tolist())
        proto.tensor_content = b""
    assert bool(proto.tensor_content) == packed
    assert tensors.matrix(ours(proto)) == array.tolist()


def test_one_value_may_stand_for_all_and_none_for_nothing():
    proto = tf.make_tensor_proto(0.5, shape=[2, 2])
    assert tensors.matrix(ours(proto)) == [[0.5, 0.5], [0.5, 0.5]]
    empty = tf.make_tensor_proto(np.zeros((0, 3), np.float32))
    assert tensors.matrix(ours(empty)) == []


def test_strings_are_read_as_text_whatever_their_bytes():
    proto = tf.make_tensor_proto([b"caf\xc3\xa9", b"\xff"])
    assert tensors.strings(ours(proto)) == ["caf\xe9", "\ufffd"]


@pytest.mark.parametrize(
    ("read", "value", "change", "message"),
    [
        (tensors.floats, [b"a"], {}, "type 7 instead of floats"),
        (tensors.strings, [1.0], {}, "type 1 instead of strings"),
        (tensors.matrix, [1.0], {}, "instead of a matrix"),
        (tensors.floats, [1.0, 2.0], {"tensor_content": b"abc"}, "3 bytes instead"),
        (tensors.strings, [b"a", b"b"], {"string_val": [b"a"]}, "1 strings instead"),
    ],
)
def test_what_is_not_whole_is_said(read, value, change, message):
    proto = ours(tf.make_tensor_proto(value))
    for name, new in change.items():
        proto.ClearField(name)
        if isinstance(new, list):
            getattr(proto, name).extend(new)
        else:
            setattr(proto, name, new)
    with pytest.raises(ValueError, match=message):
        read(proto)


def test_a_few_bytes_do_not_announce_a_tensor_that_fills_the_memory():
    proto = ours(tf.make_tensor_proto(0.5, shape=[2]))
    proto.tensor_shape.dim[0].size = 2**40
    with pytest.raises(ValueError, match="elements"):
        tensors.floats(proto)
