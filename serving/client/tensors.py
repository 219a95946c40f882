"""Conversion between TensorProto messages and Python lists."""

import math
import struct
from collections.abc import Callable, Sequence

FLOAT, DOUBLE, STRING = 1, 2, 7  # of tensorflow/core/framework/types.proto
DTYPES = {FLOAT: "DT_FLOAT", DOUBLE: "DT_DOUBLE", STRING: "DT_STRING"}
_MAX_ELEMENTS = 2**28  # a small message can declare any shape and hold one value
_MAX_DIMENSIONS = 254  # of a TensorShape in TensorFlow
_NUMBERS = {FLOAT: ("f", 4, "float_val"), DOUBLE: ("d", 8, "double_val")}


def fill(tensor, values: Sequence[bytes] | Sequence[float]) -> None:
    """Fills an empty TensorProto with (B,) strings, or with (B,) numbers as float32."""
    is_number = isinstance(values[0], float)
    tensor.dtype = FLOAT if is_number else STRING
    tensor.tensor_shape.dim.add(size=len(values))
    (tensor.float_val if is_number else tensor.string_val).extend(values)


def strings(tensor) -> list[str]:
    """Returns the strings of a TensorProto as flat text, or raises a ValueError."""
    if tensor.dtype != STRING:
        raise ValueError(f"a tensor of type {tensor.dtype} instead of strings")
    values = list(tensor.string_val)
    if len(values) != _size(tensor):
        raise ValueError(f"{len(values)} strings instead of {_size(tensor)}")
    return [value.decode("utf-8", "replace") for value in values]


def floats(tensor) -> list[float]:
    """Returns the flat numbers of a TensorProto, or raises a ValueError."""
    if tensor.dtype not in _NUMBERS:
        raise ValueError(f"a tensor of type {tensor.dtype} instead of floats")
    letter, width, field = _NUMBERS[tensor.dtype]
    size, content = _size(tensor), tensor.tensor_content
    if content:
        if len(content) != size * width:
            raise ValueError(f"{len(content)} bytes instead of {size * width}")
        return list(struct.unpack(f"<{size}{letter}", content))
    values = list(getattr(tensor, field))
    if values and len(values) < size:  # the last value is repeated
        values += values[-1:] * (size - len(values))
    if len(values) != size:
        raise ValueError(f"{len(values)} numbers instead of {size}")
    return values


def matrix(tensor) -> list[list[float]]:
    """Returns (B, C) numbers as B lists, or raises a ValueError."""
    return _rows(tensor, floats)


def string_matrix(tensor) -> list[list[str]]:
    """Returns (B, N) strings as B lists of text, or raises a ValueError."""
    return _rows(tensor, strings)


def _rows(tensor, read: Callable) -> list[list]:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if len(shape) != 2 or shape[1] < 1:  # [2**60, 0] has no elements, and many rows
        raise ValueError(f"a tensor of shape {shape[:3]} instead of a matrix")
    flat, width = read(tensor), shape[1]
    return [flat[i * width : (i + 1) * width] for i in range(shape[0])]


def _size(tensor) -> int:
    if len(tensor.tensor_shape.dim) > _MAX_DIMENSIONS:  # their product takes hours
        raise ValueError(f"a tensor of more than {_MAX_DIMENSIONS} dimensions")
    size = math.prod(dim.size for dim in tensor.tensor_shape.dim)
    if not 0 <= size <= _MAX_ELEMENTS:
        raise ValueError(f"a tensor of {size} elements")
    return size
