"""ctypes bindings of TensorFlow's C API: functions, statuses and tensors.

Source: tensorflow/c/c_api.h, tf_tensor.h and tf_tstring.h of TensorFlow 2.16. The
shared library is that of the TensorFlow wheel.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from mmkeras.errors import UserError

# Part of the wheels for Linux and macOS.
_LIBRARY = "libtensorflow_cc." + ("2.dylib" if sys.platform == "darwin" else "so.2")
_STRING_BYTES = 24  # sizeof(TF_TString), as tf_tstring.h has it
_MAX_RANK = 32  # limit of numpy before 2.0
POINTER, TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_INT64, _SIZE = ctypes.c_int64, ctypes.c_size_t


class Buffer(ctypes.Structure):
    _fields_ = [("data", POINTER), ("length", _SIZE), ("deallocator", POINTER)]


class Output(ctypes.Structure):
    _fields_ = [("operation", POINTER), ("index", _INT)]


_BUFFER, _OUTPUTS = ctypes.POINTER(Buffer), ctypes.POINTER(Output)
_POINTERS, _SIZES = ctypes.POINTER(POINTER), ctypes.POINTER(_INT64)
# Name -> type of the result, types of the arguments.
_FUNCTIONS = {
    "TF_NewStatus": (POINTER, []),
    "TF_DeleteStatus": (None, [POINTER]),
    "TF_GetCode": (_INT, [POINTER]),
    "TF_Message": (TEXT, [POINTER]),
    "TF_NewBuffer": (_BUFFER, []),
    "TF_DeleteBuffer": (None, [_BUFFER]),
    "TF_NewGraph": (POINTER, []),
    "TF_DeleteGraph": (None, [POINTER]),
    "TF_GraphOperationByName": (POINTER, [POINTER, TEXT]),
    "TF_OperationNumOutputs": (_INT, [POINTER]),
    "TF_NewSessionOptions": (POINTER, []),
    "TF_SetConfig": (None, [POINTER, TEXT, _SIZE, POINTER]),
    "TF_DeleteSessionOptions": (None, [POINTER]),
    "TF_LoadSessionFromSavedModel": (
        POINTER,
        # options, run options, folder, tags, their number, graph, meta graph, status
        [POINTER, _BUFFER, TEXT, ctypes.POINTER(TEXT), _INT]
        + [POINTER, _BUFFER, POINTER],
    ),
    "TF_SessionRun": (
        None,
        # session, run options, inputs, outputs, targets, run metadata, status
        [POINTER, _BUFFER, _OUTPUTS, _POINTERS, _INT, _OUTPUTS, _POINTERS, _INT]
        + [_POINTERS, _INT, _BUFFER, POINTER],
    ),
    "TF_CloseSession": (None, [POINTER, POINTER]),
    "TF_DeleteSession": (None, [POINTER, POINTER]),
    "TF_AllocateTensor": (POINTER, [_INT, _SIZES, _INT, _SIZE]),
    "TF_DeleteTensor": (None, [POINTER]),
    "TF_TensorData": (POINTER, [POINTER]),
    "TF_TensorType": (_INT, [POINTER]),
    "TF_NumDims": (_INT, [POINTER]),
    "TF_Dim": (_INT64, [POINTER, _INT]),
    "TF_StringInit": (None, [POINTER]),
    "TF_StringCopy": (None, [POINTER, TEXT, _SIZE]),
    "TF_StringGetDataPointer": (POINTER, [POINTER]),
    "TF_StringGetSize": (_SIZE, [POINTER]),
}
_SLOW = {"TF_LoadSessionFromSavedModel", "TF_SessionRun"}
_SLOW |= {"TF_CloseSession", "TF_DeleteSession"}


@cache
def load_library() -> SimpleNamespace:
    """Returns the C functions, from the library that `import tensorflow` has loaded.

    Only slow functions release the GIL: releasing it for each string of a tensor would
    let every other thread run first.
    """
    path = os.path.join(tf.sysconfig.get_lib(), _LIBRARY)
    if not os.path.exists(path):
        raise UserError(
            f"Exports cannot be verified here: TensorFlow has no '{path}'. Export on "
            "Linux or macOS."
        )
    quick, slow = ctypes.PyDLL(path), ctypes.CDLL(path)
    result = SimpleNamespace()
    for name, (result_type, argument_types) in _FUNCTIONS.items():
        function = getattr(slow if name in _SLOW else quick, name)
        function.restype, function.argtypes = result_type, argument_types
        setattr(result, name, function)
    return result


@contextmanager
def check_status() -> Iterator[int]:
    """Yields a new status, and raises its error, if it has one, at the end."""
    api = load_library()
    status = api.TF_NewStatus()
    try:
        yield status
        if code := api.TF_GetCode(status):
            message = api.TF_Message(status).decode(errors="replace")
            error = tf.compat.v1.errors.exception_type_from_error_code(code)
            raise error(None, None, message)
    finally:
        api.TF_DeleteStatus(status)


def run_options(timeout_ms: int) -> Any:
    """Returns options that cancel a run after `timeout_ms`."""
    content = config_pb2.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
    data = ctypes.cast(ctypes.c_char_p(content), POINTER)
    return ctypes.byref(Buffer(data, len(content), None))


def to_tensor(array: np.ndarray) -> int:
    """Returns a new tensor of the same shape and content; the caller deletes it."""
    api, strings = load_library(), array.dtype == object
    dtype = tf.as_dtype(array.dtype).as_datatype_enum  # object: strings
    array = np.ascontiguousarray(array).reshape(array.shape)
    shape = (_INT64 * array.ndim)(*array.shape)
    length = _STRING_BYTES * array.size if strings else array.nbytes
    tensor = api.TF_AllocateTensor(dtype, shape, array.ndim, length)
    data = api.TF_TensorData(tensor)
    if not strings:
        ctypes.memmove(data, array.ctypes.data, length)
        return tensor
    for i, content in enumerate(array.flat):
        address = data + i * _STRING_BYTES
        api.TF_StringInit(address)
        api.TF_StringCopy(address, content, len(content))
    return tensor


def to_array(tensor: int) -> np.ndarray:
    """Returns a copy of a tensor; strings are bytes in an array of dtype object."""
    api = load_library()
    dtype = tf.as_dtype(api.TF_TensorType(tensor))
    if not dtype.is_numpy_compatible:
        text = f"An output of type {dtype.name} is not an array."
        raise tf.errors.UnimplementedError(None, None, text)
    if (rank := api.TF_NumDims(tensor)) > _MAX_RANK:
        text = f"An output has {rank} dimensions; the maximum is {_MAX_RANK}."
        raise tf.errors.UnimplementedError(None, None, text)
    shape = [api.TF_Dim(tensor, i) for i in range(rank)]
    array, data = np.empty(shape, dtype.as_numpy_dtype), api.TF_TensorData(tensor)
    if dtype != tf.string:
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
        return array
    for i in range(array.size):
        address = data + i * _STRING_BYTES
        content = api.TF_StringGetDataPointer(address)
        array.flat[i] = ctypes.string_at(content, api.TF_StringGetSize(address))
    return array
