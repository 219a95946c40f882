"""Runs a SavedModel with the C++ loader that TF Serving uses; Python loads nothing.

The loader is `TF_LoadSessionFromSavedModel` of TensorFlow's C API, called by ctypes
out of the shared library that the TensorFlow wheel brings.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.eager import context

# call(signature, {input: strings or numbers of any rank}) -> {output: array}
Call = Callable[[str, dict[str, Any]], dict[str, np.ndarray]]

_LIBRARY = "libtensorflow_cc.so.2"
_TAG = b"serve"
_STRING_BYTES = 24  # sizeof(TF_TString), as tensorflow/c/tf_tstring.h has it
_POINTER, _TEXT, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_INT64, _SIZE = ctypes.c_int64, ctypes.c_size_t


class _Buffer(ctypes.Structure):
    _fields_ = [("data", _POINTER), ("length", _SIZE), ("deallocator", _POINTER)]


class _Output(ctypes.Structure):
    _fields_ = [("operation", _POINTER), ("index", _INT)]


_BUFFER, _OUTPUTS = ctypes.POINTER(_Buffer), ctypes.POINTER(_Output)
_POINTERS, _SIZES = ctypes.POINTER(_POINTER), ctypes.POINTER(_INT64)
# What each function returns and what it takes, as tensorflow/c/*.h declare it.
_FUNCTIONS = {
    "TF_NewStatus": (_POINTER, []),
    "TF_DeleteStatus": (None, [_POINTER]),
    "TF_GetCode": (_INT, [_POINTER]),
    "TF_Message": (_TEXT, [_POINTER]),
    "TF_NewBuffer": (_BUFFER, []),
    "TF_DeleteBuffer": (None, [_BUFFER]),
    "TF_NewGraph": (_POINTER, []),
    "TF_DeleteGraph": (None, [_POINTER]),
    "TF_GraphOperationByName": (_POINTER, [_POINTER, _TEXT]),
    "TF_OperationNumOutputs": (_INT, [_POINTER]),
    "TF_NewSessionOptions": (_POINTER, []),
    "TF_SetConfig": (None, [_POINTER, _TEXT, _SIZE, _POINTER]),
    "TF_DeleteSessionOptions": (None, [_POINTER]),
    "TF_LoadSessionFromSavedModel": (
        _POINTER,
        # options, run options, folder, tags, their number, graph, meta graph, status
        [_POINTER, _BUFFER, _TEXT, ctypes.POINTER(_TEXT), _INT]
        + [_POINTER, _BUFFER, _POINTER],
    ),
    "TF_SessionRun": (
        None,
        # session, run options, inputs, outputs, targets, run metadata, status
        [_POINTER, _BUFFER, _OUTPUTS, _POINTERS, _INT, _OUTPUTS, _POINTERS, _INT]
        + [_POINTERS, _INT, _BUFFER, _POINTER],
    ),
    "TF_CloseSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteSession": (None, [_POINTER, _POINTER]),
    "TF_AllocateTensor": (_POINTER, [_INT, _SIZES, _INT, _SIZE]),
    "TF_DeleteTensor": (None, [_POINTER]),
    "TF_TensorData": (_POINTER, [_POINTER]),
    "TF_TensorType": (_INT, [_POINTER]),
    "TF_NumDims": (_INT, [_POINTER]),
    "TF_Dim": (_INT64, [_POINTER, _INT]),
    "TF_StringInit": (None, [_POINTER]),
    "TF_StringCopy": (None, [_POINTER, _TEXT, _SIZE]),
    "TF_StringGetDataPointer": (_POINTER, [_POINTER]),
    "TF_StringGetSize": (_SIZE, [_POINTER]),
}


@contextmanager
def loaded(path: Path) -> Iterator[Call]:
    """Loads a SavedModel and yields the call that runs its signatures.

    Strings are bytes, a list of them, or lists of lists, or an array of dtype object.
    They reach the graph with the rank they have: it is the graph that refuses a wrong
    one, as it does when it is served.

    Raises:
        tf.errors.OpError: Of the class of TensorFlow's error code, on loading and on
            each call; NotFoundError where there is no such signature, and
            InvalidArgumentError where the inputs are not those of the signature.
    """
    with ExitStack() as stack:
        graph = _api().TF_NewGraph()
        stack.callback(_api().TF_DeleteGraph, graph)
        session, signatures = _open(path, graph)
        stack.callback(_close, session)
        stack.callback(signatures.clear)  # a call that comes later finds none

        def call(signature, feeds):
            if signature not in signatures:
                known = ", ".join(sorted(signatures)) or "none"
                raise tf.errors.NotFoundError(
                    None, None, f"There is no signature '{signature}', only: {known}."
                )
            inputs, outputs = signatures[signature]
            _check_names(signature, inputs, feeds)
            return _run(session, graph, inputs, outputs, feeds)

        yield call


@cache
def _api() -> ctypes.CDLL:
    """Opens the library that `import tensorflow` has loaded already."""
    api = ctypes.CDLL(os.path.join(tf.sysconfig.get_lib(), _LIBRARY))
    for name, (returns, takes) in _FUNCTIONS.items():
        function = getattr(api, name)
        function.restype, function.argtypes = returns, takes
    return api


@contextmanager
def _status() -> Iterator[int]:
    """Yields a new status, and raises the exception that it then stands for."""
    api = _api()
    status = api.TF_NewStatus()
    try:
        yield status
        if code := api.TF_GetCode(status):
            message = api.TF_Message(status).decode(errors="replace")
            error = tf.compat.v1.errors.exception_type_from_error_code(code)
            raise error(None, None, message)
    finally:
        api.TF_DeleteStatus(status)


def _open(path: Path, graph: int) -> tuple[int, dict[str, tuple[dict, dict]]]:
    """Fills the graph; returns the session, and {signature: (inputs, outputs)}."""
    api = _api()
    options, buffer = api.TF_NewSessionOptions(), api.TF_NewBuffer()
    config, tags = _devices(), (_TEXT * 1)(_TAG)
    try:
        with _status() as status:
            api.TF_SetConfig(options, config, len(config), status)
        with _status() as status:
            session = api.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(path), tags, 1, graph, buffer, status
            )
        meta = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        api.TF_DeleteSessionOptions(options)
        api.TF_DeleteBuffer(buffer)
    signatures = meta_graph_pb2.MetaGraphDef.FromString(meta).signature_def
    return session, {
        name: (dict(definition.inputs), dict(definition.outputs))
        for name, definition in signatures.items()
        if not name.startswith("__")  # TensorFlow's own, as the initialisation
    }


def _devices() -> bytes:
    """Returns a session's settings: the devices that Python sees, all else as is.

    Two sessions in one process that see different GPUs are an error.
    """
    seen = context.context().config
    config = config_pb2.ConfigProto(
        device_count=seen.device_count, gpu_options=seen.gpu_options
    )
    return config.SerializeToString()


def _close(session: int) -> None:
    for release in (_api().TF_CloseSession, _api().TF_DeleteSession):
        with _status() as status:
            release(session, status)


def _check_names(signature: str, inputs, feeds) -> None:
    if set(inputs) != set(feeds):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"Signature '{signature}' takes {', '.join(sorted(inputs))}; received "
            f"{', '.join(sorted(feeds)) or 'nothing'}.",
        )


def _run(session: int, graph: int, inputs, outputs, feeds) -> dict[str, np.ndarray]:
    api = _api()
    starts, ends = _points(graph, inputs), _points(graph, outputs)
    arrays = {k: _array(k, feeds[k], tf.as_dtype(inputs[k].dtype)) for k in inputs}
    fed, fetched = (_POINTER * len(starts))(), (_POINTER * len(ends))()
    try:
        for i, name in enumerate(inputs):
            fed[i] = _write(arrays[name], inputs[name].dtype)
        with _status() as status:
            api.TF_SessionRun(
                *(session, None, starts, fed, len(fed), ends, fetched, len(fetched)),
                *(None, 0, None, status),
            )
        return {name: _read(fetched[i]) for i, name in enumerate(outputs)}
    finally:
        for tensor in filter(None, [*fed, *fetched]):
            api.TF_DeleteTensor(tensor)


def _points(graph: int, infos) -> ctypes.Array:
    """Finds where in the graph the tensors of a signature begin or end."""
    points = (_Output * len(infos))()
    for point, (key, info) in zip(points, infos.items(), strict=True):
        name, _, index = info.name.partition(":")  # "" for a sparse or ragged tensor
        operation = _api().TF_GraphOperationByName(graph, name.encode())
        there = _api().TF_OperationNumOutputs(operation) if operation else 0
        numbered = not index or index.isdecimal()
        if not (numbered and int(index or 0) < there and _is_array(info.dtype)):
            raise tf.errors.UnimplementedError(
                None, None, f"'{key}' of the signature is no plain tensor of the graph."
            )
        point.operation, point.index = operation, int(index or 0)
    return points


def _is_array(dtype: int) -> bool:
    return tf.as_dtype(dtype).is_numpy_compatible


def _array(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
    array = np.array(value, dtype.as_numpy_dtype, order="C")
    if dtype == tf.string and not all(isinstance(s, bytes) for s in array.flat):
        raise TypeError(f"Input '{name}' takes bytes, in lists of one length.")
    return array


def _write(array: np.ndarray, dtype: int) -> int:
    """Makes a tensor of the same shape and content; the caller deletes it."""
    api, strings = _api(), array.dtype == object
    shape = (_INT64 * array.ndim)(*array.shape)
    length = _STRING_BYTES * array.size if strings else array.nbytes
    tensor = api.TF_AllocateTensor(dtype, shape, array.ndim, length)
    data = api.TF_TensorData(tensor)
    if not strings:
        ctypes.memmove(data, array.ctypes.data, length)
        return tensor
    for i, content in enumerate(array.flat):
        api.TF_StringInit(data + i * _STRING_BYTES)
        api.TF_StringCopy(data + i * _STRING_BYTES, content, len(content))
    return tensor


def _read(tensor: int) -> np.ndarray:
    """Copies a tensor into an array, strings as bytes in one of dtype object."""
    api = _api()
    dtype = tf.as_dtype(api.TF_TensorType(tensor))
    shape = [api.TF_Dim(tensor, i) for i in range(api.TF_NumDims(tensor))]
    array, data = np.empty(shape, dtype.as_numpy_dtype), api.TF_TensorData(tensor)
    if dtype != tf.string:
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
        return array
    for i in range(array.size):
        slot = data + i * _STRING_BYTES
        content = api.TF_StringGetDataPointer(slot)
        array.flat[i] = ctypes.string_at(content, api.TF_StringGetSize(slot))
    return array
