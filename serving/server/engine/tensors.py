"""Conversion between TensorProto and numpy arrays."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

# Fields with one number per element; `_to_bits_proto` converts the other types.
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
}
# A string costs a pointer in numpy and sizeof(TF_TString), without its content.
_STRING_BYTES = 8 + 24
_FIELDS_BY_NAME = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name
_PACKED = {
    types_pb2.DT_FLOAT: (_FIELDS_BY_NAME["float_val"], np.float32),
    types_pb2.DT_DOUBLE: (_FIELDS_BY_NAME["double_val"], np.float64),
}
_LENGTH_DELIMITED = 2  # protobuf's wire type
_MAX_RANK = 32  # numpy's


def to_array(proto: tensor_pb2.TensorProto, max_bytes: int) -> np.ndarray:
    """Returns a tensor as an array; strings as bytes in dtype object.

    If the proto has fewer values than its shape, the last one is repeated.

    Args:
        proto: Values in the field of their type, or in `tensor_content`.
        max_bytes: Maximum size of the array, which a few bytes can exceed.

    Raises:
        ValueError: The proto is not a tensor, or the array is too large.
    """
    shape = _shape(proto.tensor_shape)
    if proto.dtype not in _KNOWN:
        raise ValueError(f"type {proto.dtype}")
    size, dtype = math.prod(shape), tf.as_dtype(proto.dtype)
    if (size_bytes := size * _item_bytes(dtype)) > max_bytes:
        raise ValueError(f"{size_bytes} bytes")
    if dtype == tf.string:
        return _strings(proto, size).reshape(shape)
    content = proto.tensor_content  # a copy
    if len(content) == size_bytes and dtype != tf.bool:
        return np.frombuffer(content, dtype.as_numpy_dtype).reshape(shape)
    del content
    if (array := _packed_floats(proto, size)) is not None:
        return array.reshape(shape)
    try:  # 20 to 67 times as fast as tf.make_ndarray
        return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except tf.errors.OpError as error:
        raise ValueError(f"shape {shape}") from error


def tensor_bytes(proto: tensor_pb2.TensorProto, max_bytes: int) -> int:
    """Returns the size of the array that `to_array` returns; 0 where it raises."""
    try:
        size = math.prod(_shape(proto.tensor_shape))
    except ValueError:
        return 0
    if proto.dtype not in _KNOWN:
        return 0
    size_bytes = size * _item_bytes(tf.as_dtype(proto.dtype))
    return size_bytes if size_bytes <= max_bytes else 0


def expanded_bytes(proto: tensor_pb2.TensorProto, max_bytes: int) -> int:
    """Returns the bytes of `to_array`'s result above those of the proto, about.

    `ByteSize` would serialize the proto.
    """
    size_bytes = tensor_bytes(proto, max_bytes)
    if proto.dtype in _PACKED:
        field, dtype = _PACKED[proto.dtype]
        size_bytes -= len(getattr(proto, field.name)) * dtype().itemsize
    elif proto.dtype in _FIELDS:  # a value has at least one byte
        size_bytes -= len(getattr(proto, _FIELDS[proto.dtype]))
    return size_bytes and max(0, size_bytes - len(proto.tensor_content))


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Returns an array as a proto, with values in the field of their type.

    TensorFlow Serving does the same; some clients cannot read `tensor_content`.
    """
    dtype = tf.as_dtype(array.dtype).as_datatype_enum  # object: strings
    if dtype not in _FIELDS:
        return _to_bits_proto(array, dtype)
    values = {_FIELDS[dtype]: array.ravel().tolist()}
    return tensor_pb2.TensorProto(
        dtype=dtype, tensor_shape=_shape_proto(array), **values
    )


_KNOWN = frozenset(
    value
    for value in types_pb2.DataType.values()
    if 0 < value < 100 and tf.as_dtype(value).is_numpy_compatible
)


def _item_bytes(dtype: tf.DType) -> int:
    return dtype.size or _STRING_BYTES


def _shape(proto: tensor_shape_pb2.TensorShapeProto) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in proto.dim)
    if min(shape, default=0) < 0 or len(shape) > _MAX_RANK or proto.unknown_rank:
        raise ValueError(f"shape {shape}")
    return shape


def _strings(proto: tensor_pb2.TensorProto, size: int) -> np.ndarray:
    if proto.tensor_content:
        raise ValueError("strings in tensor_content")
    values = proto.string_val[:size]
    array = np.empty(size, object)
    array[len(values) :] = values[-1] if values else b""
    array[: len(values)] = values
    return array


def _packed_floats(proto: tensor_pb2.TensorProto, size: int) -> np.ndarray | None:
    """Returns the values of float_val or double_val without more copies, or None.

    They are the end of the serialized proto, behind their tag and their size.
    """
    field, dtype = _PACKED.get(proto.dtype, (None, None))
    if field is None or not size or len(getattr(proto, field.name)) != size:
        return None
    data, size_bytes = proto.SerializeToString(), size * dtype().itemsize
    start, end = len(data) - size_bytes, []
    for number in (field.number << 3 | _LENGTH_DELIMITED, size_bytes):
        while number > 127:
            end.append(number & 127 | 128)
            number >>= 7
        end.append(number)
    if not data.endswith(bytes(end), 0, start):  # fields of other types follow
        return None
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=start)


def _shape_proto(array: np.ndarray) -> tensor_shape_pb2.TensorShapeProto:
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    return tensor_shape_pb2.TensorShapeProto(dim=dims)


def _to_bits_proto(array: np.ndarray, dtype: int) -> tensor_pb2.TensorProto:
    """Returns the proto with half floats as bits, complex numbers as pairs."""
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape=_shape_proto(array))
    flat = array.ravel()
    if dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        proto.half_val.extend(flat.view(np.uint16).tolist())
    elif dtype == types_pb2.DT_COMPLEX64:
        proto.scomplex_val.extend(flat.view(np.float32).tolist())
    elif dtype == types_pb2.DT_COMPLEX128:
        proto.dcomplex_val.extend(flat.view(np.float64).tolist())
    else:
        proto.tensor_content = flat.tobytes()
    return proto
