"""Conversion between TensorProto and numpy arrays."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

# Types with a field of values; the others are in `tensor_content`.
_FIELDS = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
}
# Half floats are written as bits, complex numbers as pairs.
_PARTS = {"half_val": np.uint16, "scomplex_val": np.float32, "dcomplex_val": np.float64}
_TYPES = {
    value: tf.as_dtype(value)
    for value in types_pb2.DataType.values()
    if 0 < value < 100 and tf.as_dtype(value).is_numpy_compatible
}
# A string costs a pointer in numpy and sizeof(TF_TString), without its content.
_STRING_BYTES = 8 + 24
_FIELDS_BY_NAME = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name
_PACKED = {
    types_pb2.DT_FLOAT: (_FIELDS_BY_NAME["float_val"], np.dtype("<f4")),
    types_pb2.DT_DOUBLE: (_FIELDS_BY_NAME["double_val"], np.dtype("<f8")),
}
_LENGTH_DELIMITED = 2  # protobuf's wire type
_MAX_RANK = 32  # numpy's


def to_array(proto: tensor_pb2.TensorProto, max_bytes: int) -> np.ndarray:
    """Returns a tensor as an array; strings as bytes in dtype object.

    If the proto has fewer values than its shape, the last one is repeated. Raises
    ValueError for what is not a tensor, or an array above `max_bytes`.
    """
    shape, dtype, size_bytes = _measure(proto, max_bytes)
    if dtype == tf.string:
        return _strings(proto, math.prod(shape)).reshape(shape)
    content = proto.tensor_content  # a copy
    if len(content) == size_bytes and dtype != tf.bool:
        return np.frombuffer(content, dtype.as_numpy_dtype).reshape(shape)
    del content
    if (array := _packed_floats(proto, size_bytes)) is not None:
        return array.reshape(shape)
    try:  # 20 to 67 times as fast as tf.make_ndarray
        return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except tf.errors.OpError as error:
        raise ValueError(f"shape {shape}") from error


def tensor_bytes(proto: tensor_pb2.TensorProto, max_bytes: int) -> int:
    """Returns the size of the array that `to_array` returns; 0 where it raises."""
    try:
        return _measure(proto, max_bytes)[-1]
    except ValueError:
        return 0


def expanded_bytes(proto: tensor_pb2.TensorProto, max_bytes: int) -> int:
    """Returns the bytes of `to_array`'s result above those of the proto, about.

    `ByteSize` would serialize the proto.
    """
    size_bytes = tensor_bytes(proto, max_bytes)
    if proto.dtype in _PACKED:
        field, dtype = _PACKED[proto.dtype]
        size_bytes -= len(getattr(proto, field.name)) * dtype.itemsize
    elif proto.dtype in _FIELDS:  # a value has at least one byte
        size_bytes -= len(getattr(proto, _FIELDS[proto.dtype]))
    return size_bytes and max(0, size_bytes - len(proto.tensor_content))


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Returns an array as a proto, with values in the field of their type.

    TensorFlow Serving does the same; some clients cannot read `tensor_content`.
    """
    dtype = tf.as_dtype(array.dtype).as_datatype_enum  # object: strings
    shape = {"dim": [{"size": size} for size in array.shape]}
    field, flat = _FIELDS.get(dtype), array.ravel()
    if field in _PARTS:
        flat = flat.view(_PARTS[field])
    values = {field: flat.tolist()} if field else {"tensor_content": flat.tobytes()}
    return tensor_pb2.TensorProto(dtype=dtype, tensor_shape=shape, **values)


def _measure(proto, max_bytes: int) -> tuple[tuple[int, ...], tf.DType, int]:
    """Returns the shape, the type and the bytes of a tensor, all checked."""
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    has_rank = len(shape) <= _MAX_RANK and not proto.tensor_shape.unknown_rank
    if not has_rank or min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    if not (dtype := _TYPES.get(proto.dtype)):
        raise ValueError(f"type {proto.dtype}")
    size_bytes = math.prod(shape) * (dtype.size or _STRING_BYTES)
    if size_bytes > max_bytes:
        raise ValueError(f"{size_bytes} bytes")
    return shape, dtype, size_bytes


def _strings(proto: tensor_pb2.TensorProto, size: int) -> np.ndarray:
    if proto.tensor_content:
        raise ValueError("strings in tensor_content")
    values = proto.string_val[:size]
    array = np.empty(size, object)
    array[len(values) :] = values[-1] if values else b""
    array[: len(values)] = values
    return array


def _packed_floats(proto: tensor_pb2.TensorProto, size_bytes: int) -> np.ndarray | None:
    """Returns the values of float_val or double_val without more copies, or None.

    They are the end of the serialized proto, behind their tag and their size.
    """
    field, dtype = _PACKED.get(proto.dtype, (None, None))
    if not (field and size_bytes):
        return None
    if len(getattr(proto, field.name)) * dtype.itemsize != size_bytes:
        return None
    data, header = proto.SerializeToString(), []
    start = len(data) - size_bytes
    for number in (field.number << 3 | _LENGTH_DELIMITED, size_bytes):
        while number > 127:
            header.append(number & 127 | 128)
            number >>= 7
        header.append(number)
    if not data.endswith(bytes(header), 0, start):  # fields of other types follow
        return None
    return np.frombuffer(data, dtype, offset=start)
