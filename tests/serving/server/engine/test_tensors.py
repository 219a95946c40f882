import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.server.engine.tensors import tensor_bytes, to_array, to_proto

MAX_BYTES = 2**20
NUMBERS = ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
NUMBERS += ["c8", "c16"]


def proto(dtype=types_pb2.DT_FLOAT, shape=(2, 3), **fields):
    shape = {"dim": [{"size": size} for size in shape]}
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, **fields)


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(name) for name in NUMBERS]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_numbers_survive_the_round_trip_exactly(array):
    message = to_proto(array)
    for result in (to_array(message, MAX_BYTES), tf.make_ndarray(message)):
        assert result.dtype == array.dtype and result.shape == array.shape
        assert result.tobytes() == array.tobytes()
    packed = tf.make_tensor_proto(array)  # the form of most clients
    assert to_array(packed, MAX_BYTES).tobytes() == array.tobytes()


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_strings_survive_the_round_trip_as_bytes(values):
    array = to_array(to_proto(np.array(values, object)), MAX_BYTES)
    assert array.dtype == object and array.tolist() == values


def test_values_are_in_the_field_of_their_type():
    assert to_proto(np.array([1.5], "f4")).float_val == [1.5]
    assert to_proto(np.array([b"a"], object)).string_val == [b"a"]
    assert to_proto(np.array([3], "u1")).int_val == [3]
    assert to_proto(np.array([1], tf.bfloat16.as_numpy_dtype)).half_val == [0x3F80]


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (proto(float_val=[1, 2]), [[1, 2, 2], [2, 2, 2]]),
        (proto(shape=(2,), float_val=[1, 2], int_val=[7]), [1, 2]),  # of another type
        (proto(types_pb2.DT_STRING, (3,), string_val=[b"a", b"b"]), [b"a", b"b", b"b"]),
        (proto(types_pb2.DT_STRING, (2,)), [b"", b""]),
        (proto(types_pb2.DT_STRING, (1,), string_val=[b"a", b"b"]), [b"a"]),
    ],
)
def test_missing_values_repeat_the_last_one_and_superfluous_ones_are_ignored(
    message, values
):
    assert to_array(message, MAX_BYTES).tolist() == values


@pytest.mark.parametrize(
    "message",
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
        proto(shape=(2**20,), float_val=[1]),  # a few bytes that stand for 4 MiB
        proto(types_pb2.DT_STRING, (2,), tensor_content=b"ab"),
        tensor_pb2.TensorProto(
            dtype=1, tensor_shape={"unknown_rank": True}, float_val=[1]
        ),
        tensor_pb2.TensorProto(),
    ],
)
def test_an_invalid_or_large_tensor_is_refused(message):
    with pytest.raises(ValueError):
        to_array(message, MAX_BYTES)


def test_the_size_in_memory_counts_strings_and_ignores_invalid_tensors():
    strings = proto(types_pb2.DT_STRING, (1000,))
    assert tensor_bytes(strings, MAX_BYTES) == 32_000
    assert to_array(strings, 32_000).shape == (1000,)
    with pytest.raises(ValueError, match="32000 bytes"):
        to_array(strings, 31_999)
    for invalid in (proto(shape=(-1,)), proto(shape=(2**40,)), proto(99, (4,))):
        assert tensor_bytes(invalid, MAX_BYTES) == 0
