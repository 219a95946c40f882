import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.server.engine.tensors import to_array, to_proto

MOST = 2**20
NUMBERS = ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
NUMBERS += ["c8", "c16"]


def proto(dtype=types_pb2.DT_FLOAT, shape=(2, 3), **fields):
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    shaped = tensor_shape_pb2.TensorShapeProto(dim=dims)
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shaped, **fields)


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(name) for name in NUMBERS]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_numbers_come_back_to_the_last_bit(array):
    sent = to_proto(array)
    for back in (to_array(sent, MOST), tf.make_ndarray(sent)):
        assert back.dtype == array.dtype and back.shape == array.shape
        assert back.tobytes() == array.tobytes()
    packed = tf.make_tensor_proto(array)  # as most clients send them
    assert to_array(packed, MOST).tobytes() == array.tobytes()


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_strings_come_back_as_bytes(values):
    array = np.array(values, object)
    back = to_array(to_proto(array), MOST)
    assert back.dtype == object and back.tolist() == values


def test_values_stand_in_the_field_of_their_type():
    assert to_proto(np.array([1.5], "f4")).float_val == [1.5]
    assert to_proto(np.array([b"a"], object)).string_val == [b"a"]
    assert to_proto(np.array([3], "u1")).int_val == [3]
    assert not to_proto(np.ones(3, "f4")).tensor_content


def test_the_last_value_is_repeated_where_there_are_fewer():
    assert to_array(proto(float_val=[1, 2]), MOST).tolist() == [[1, 2, 2], [2, 2, 2]]
    strings = proto(types_pb2.DT_STRING, (3,), string_val=[b"a", b"b"])
    assert to_array(strings, MOST).tolist() == [b"a", b"b", b"b"]
    nothing = proto(types_pb2.DT_STRING, (2,))
    assert to_array(nothing, MOST).tolist() == [b"", b""]
    more = proto(types_pb2.DT_STRING, (1,), string_val=[b"a", b"b"])
    assert to_array(more, MOST).tolist() == [b"a"]


@pytest.mark.parametrize(
    "bad",
    [
        proto(dtype=types_pb2.DT_INVALID, float_val=[1]),
        proto(dtype=types_pb2.DT_RESOURCE),
        proto(dtype=types_pb2.DT_VARIANT),
        proto(dtype=types_pb2.DT_FLOAT_REF, float_val=[1]),
        proto(dtype=77, float_val=[1]),
        proto(tensor_content=b"123"),
        proto(shape=(-1, 3), float_val=[1]),
        proto(shape=[1] * 255, float_val=[1]),
        proto(shape=(2**40, 2**40), float_val=[1]),
        proto(shape=(2**20,), float_val=[1]),  # a few bytes that ask for 4 MiB
        proto(types_pb2.DT_STRING, (2,), tensor_content=b"ab"),
        tensor_pb2.TensorProto(
            dtype=1, tensor_shape={"unknown_rank": True}, float_val=[1]
        ),
        tensor_pb2.TensorProto(),
    ],
)
def test_what_is_no_tensor_is_refused(bad):
    with pytest.raises(ValueError):
        to_array(bad, MOST)
