"""Runs a SavedModel with the C++ loader that TF Serving uses; Python loads nothing.

The loader is `TF_LoadSessionFromSavedModel` of TensorFlow's C API, called by ctypes
out of the shared library that the TensorFlow wheel brings.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.eager import context

from mmkeras.export.c_api import (
    POINTER,
    TEXT,
    Output,
    checked,
    functions,
    run_options,
    to_array,
    to_tensor,
)

# call(signature, {input: strings or numbers of any rank}) -> {output: array}
Call = Callable[[str, dict[str, Any]], dict[str, np.ndarray]]

_TAG = b"serve"


class Session:
    """A SavedModel's graph with its variables, ready to run; from any thread.

    Attributes:
        signatures: {name: SignatureDef}; those of TensorFlow itself begin with "__".
        operations: {signature: types of the operations that its outputs come from}.
    """

    def __init__(self, path: str | os.PathLike):
        """Loads the model at `path`, as TF Serving does.

        Raises:
            tf.errors.OpError: Of the class of TensorFlow's error code.
        """
        self._graph = functions().TF_NewGraph()
        try:
            self._session, meta = _open(path, self._graph)
        except BaseException:
            functions().TF_DeleteGraph(self._graph)
            raise
        self.signatures, self._points = {}, dict[str, Output]()
        try:
            meta = meta_graph_pb2.MetaGraphDef.FromString(meta)
            self.signatures = _signatures(meta)
            self.operations = _operations(meta)
        except BaseException:
            self.close()
            raise

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_ms: int = 0,
    ) -> list[np.ndarray]:
        """Runs the graph from the tensors of `feeds` to those of `fetches`.

        Args:
            feeds: {name of a tensor, as "x:0": array}; strings are bytes in arrays of
                dtype object. An array reaches the graph with the type and shape it
                has: it is TensorFlow that refuses a wrong one.
            fetches: Names of tensors.
            timeout_ms: The run is cancelled when it is over; 0: never.

        Raises:
            tf.errors.OpError: Of the class of TensorFlow's error code.
        """
        api = functions()
        starts = (Output * len(feeds))(*map(self._point, feeds))
        ends = (Output * len(fetches))(*map(self._point, fetches))
        options = run_options(timeout_ms) if timeout_ms else None
        fed, fetched = (POINTER * len(starts))(), (POINTER * len(ends))()
        try:
            for i, array in enumerate(feeds.values()):
                fed[i] = to_tensor(array)
            with checked() as status:
                api.TF_SessionRun(
                    *(self._session, options, starts, fed, len(fed)),
                    *(ends, fetched, len(fetched), None, 0, None, status),
                )
            return [to_array(tensor) for tensor in fetched]
        finally:
            for tensor in filter(None, [*fed, *fetched]):
                api.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Gives all memory back. No run may be under way, and none comes after."""
        self.signatures.clear()
        for release in (functions().TF_CloseSession, functions().TF_DeleteSession):
            with checked() as status:
                release(self._session, status)
        functions().TF_DeleteGraph(self._graph)
        _trim()

    def _point(self, tensor: str) -> Output:
        """Finds where in the graph a tensor is."""
        point = self._points.get(tensor)
        if point is None:
            name, _, index = tensor.partition(":")  # "" for a sparse or ragged one
            operation = functions().TF_GraphOperationByName(self._graph, name.encode())
            there = functions().TF_OperationNumOutputs(operation) if operation else 0
            if not (index or "0").isdecimal() or int(index or 0) >= there:
                raise tf.errors.UnimplementedError(
                    None, None, f"'{tensor}' is no plain tensor of the graph."
                )
            point = self._points[tensor] = Output(operation, int(index or 0))
        return point


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
    session = Session(path)

    def call(signature, feeds):
        known = sorted(s for s in session.signatures if not s.startswith("__"))
        if signature not in known:  # after the end there is none
            raise tf.errors.NotFoundError(
                None,
                None,
                f"There is no signature '{signature}', only: "
                f"{', '.join(known) or 'none'}.",
            )
        definition = session.signatures[signature]
        inputs, outputs = dict(definition.inputs), dict(definition.outputs)
        _check_names(signature, inputs, feeds)
        for key, info in {**inputs, **outputs}.items():
            _check_plain(key, info)
        arrays = {
            inputs[k].name: _array(k, feeds[k], tf.as_dtype(inputs[k].dtype))
            for k in inputs
        }
        answers = session.run(arrays, [info.name for info in outputs.values()])
        return dict(zip(outputs, answers, strict=True))

    try:
        yield call
    finally:
        session.close()


def _trim() -> None:
    """Gives freed memory back to the machine: glibc keeps it, in an arena a thread.

    A process that loads one version after the other would grow by some of each.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)


def _open(path, graph: int) -> tuple[int, bytes]:
    """Fills the graph; returns the session, and the MetaGraphDef of the model."""
    api = functions()
    options, buffer = api.TF_NewSessionOptions(), api.TF_NewBuffer()
    config, tags = _devices(), (TEXT * 1)(_TAG)
    try:
        with checked() as status:
            api.TF_SetConfig(options, config, len(config), status)
        with checked() as status:
            session = api.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(path), tags, 1, graph, buffer, status
            )
        meta = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        api.TF_DeleteSessionOptions(options)
        api.TF_DeleteBuffer(buffer)
    return session, meta


def _signatures(meta) -> dict[str, meta_graph_pb2.SignatureDef]:
    found = {}
    for name, definition in meta.signature_def.items():
        found[name] = meta_graph_pb2.SignatureDef()  # a part would keep the whole
        found[name].CopyFrom(definition)
    return found


def _operations(meta) -> dict[str, frozenset[str]]:
    graph = meta.graph_def
    nodes = {node.name: node for node in graph.node}
    bodies = {f.signature.name: f.node_def for f in graph.library.function}
    found = {}
    for name, definition in meta.signature_def.items():
        ends = [info.name.partition(":")[0] for info in definition.outputs.values()]
        reached = _closure(ends, lambda at: map(_source, nodes[at].input), nodes)
        ops = {nodes[at].op for at in reached}
        called = {f for at in reached for f in _called(nodes[at])}
        inner = _closure(called, lambda at: chain(*map(_called, bodies[at])), bodies)
        ops.update(node.op for at in inner for node in bodies[at])
        found[name] = frozenset(ops)
    return found


def _closure(start, following, known) -> set[str]:
    """Returns what is known of `start`, of what follows it, and so on."""
    reached, left = set(), list(start)
    while left:
        if (at := left.pop()) in known and at not in reached:
            reached.add(at)
            left.extend(following(at))
    return reached


def _source(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _called(node) -> list[str]:
    """Returns the names of functions that a node may call."""
    listed = [f for a in node.attr.values() for f in (a.func, *a.list.func)]
    return [node.op, *(f.name for f in listed)]


def _devices() -> bytes:
    """Returns a session's settings: the devices that Python sees, all else as is.

    Two sessions in one process that see different GPUs are an error.
    """
    seen = context.context().config
    config = config_pb2.ConfigProto(
        device_count=seen.device_count, gpu_options=seen.gpu_options
    )
    return config.SerializeToString()


def _check_names(signature: str, inputs, feeds) -> None:
    if set(inputs) != set(feeds):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"Signature '{signature}' takes {', '.join(sorted(inputs))}; received "
            f"{', '.join(sorted(feeds)) or 'nothing'}.",
        )


def _check_plain(key: str, info) -> None:
    if not (info.name and _is_array(info.dtype)):
        raise tf.errors.UnimplementedError(
            None, None, f"'{key}' of the signature is no plain tensor of the graph."
        )


def _is_array(dtype: int) -> bool:
    return tf.as_dtype(dtype).is_numpy_compatible


def _array(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
    array = np.array(value, dtype.as_numpy_dtype, order="C")
    if dtype == tf.string and not all(isinstance(s, bytes) for s in array.flat):
        raise TypeError(f"Input '{name}' takes bytes, in lists of one length.")
    return array
