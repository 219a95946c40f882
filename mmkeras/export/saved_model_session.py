"""Sessions on SavedModels, loaded by TF Serving's C++ loader instead of Python's."""

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
    check_status,
    load_library,
    run_options,
    to_array,
    to_tensor,
)
from mmkeras.path_patterns import path_without_pattern

# Signature and {input: strings or numbers of any rank} to {output: array}.
Call = Callable[[str, dict[str, Any]], dict[str, np.ndarray]]

_TAG = b"serve"


class Session:
    """A thread-safe session on a SavedModel.

    Attributes:
        signatures: Name -> SignatureDef; TensorFlow's own names begin with "__".
        operations: Signature -> types of the operations that compute its outputs.
    """

    def __init__(self, path: str | os.PathLike):
        """Loads the model at `path`; raises a `tf.errors.OpError` on failure."""
        self._graph = load_library().TF_NewGraph()
        try:
            with path_without_pattern(path) as plain_path:
                self._session, meta = _open(plain_path, self._graph)
        except BaseException:
            load_library().TF_DeleteGraph(self._graph)
            raise
        self.signatures, self._outputs = {}, dict[str, Output]()
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

        `feeds` maps names of tensors, as "x:0", to arrays; strings are bytes in arrays
        of dtype object; inputs of the same array share its copy. TensorFlow checks the
        types and shapes. A `timeout_ms` of 0 is no limit.

        Raises:
            tf.errors.OpError: Subclass for TensorFlow's error code.
        """
        api = load_library()
        sources = (Output * len(feeds))(*map(self._output, feeds))
        targets = (Output * len(fetches))(*map(self._output, fetches))
        options = run_options(timeout_ms) if timeout_ms else None
        inputs, results = (POINTER * len(sources))(), (POINTER * len(targets))()
        tensors: dict[int, int] = {}
        try:
            for i, array in enumerate(feeds.values()):
                if id(array) not in tensors:
                    tensors[id(array)] = to_tensor(array)
                inputs[i] = tensors[id(array)]
            with check_status() as status:
                api.TF_SessionRun(
                    *(self._session, options, sources, inputs, len(inputs)),
                    *(targets, results, len(results), None, 0, None, status),
                )
            return [to_array(tensor) for tensor in results]
        finally:
            for tensor in filter(None, [*tensors.values(), *results]):
                api.TF_DeleteTensor(tensor)

    def close(self) -> None:
        """Releases all memory; no run may be active or follow."""
        self.signatures.clear()
        api = load_library()
        for release in (api.TF_CloseSession, api.TF_DeleteSession):
            with check_status() as status:
                release(self._session, status)
        api.TF_DeleteGraph(self._graph)
        _trim()

    def _output(self, tensor: str) -> Output:
        """Returns the operation and the output index of a tensor."""
        if tensor not in self._outputs:
            name, _, index = tensor.partition(":")  # "" for a sparse or ragged tensor
            api = load_library()
            operation = api.TF_GraphOperationByName(self._graph, name.encode())
            count = api.TF_OperationNumOutputs(operation) if operation else 0
            if not (index or "0").isdecimal() or int(index or 0) >= count:
                raise _unimplemented(f"'{tensor}' is not a dense tensor of the graph.")
            self._outputs[tensor] = Output(operation, int(index or 0))
        return self._outputs[tensor]


@contextmanager
def load_saved_model(path: Path) -> Iterator[Call]:
    """Loads a SavedModel and yields a function that calls its signatures.

    Strings are bytes, in nested lists or in an array of dtype object. The graph checks
    their rank, as it does in TF Serving.

    Raises:
        tf.errors.OpError: Subclass for TensorFlow's error code; NotFoundError for an
            unknown signature, InvalidArgumentError for unknown names of inputs.

    Example:
        with load_saved_model(Path("served/1")) as call:
            call("serving_default", {"text": [b"warm fire", b""]})["label"]
    """
    session = Session(path)

    def call(signature, feeds):
        names = sorted(s for s in session.signatures if not s.startswith("__"))
        if signature not in names:  # after `close` there are none
            known = ", ".join(names) or "none"
            message = f"There is no signature '{signature}', only: {known}."
            raise tf.errors.NotFoundError(None, None, message)
        definition = session.signatures[signature]
        inputs, outputs = dict(definition.inputs), dict(definition.outputs)
        _check_signature(signature, inputs, outputs, feeds)
        arrays = {
            inputs[k].name: _array(k, feeds[k], tf.as_dtype(inputs[k].dtype))
            for k in inputs
        }
        results = session.run(arrays, [info.name for info in outputs.values()])
        return dict(zip(outputs, results, strict=True))

    try:
        yield call
    finally:
        session.close()


def _trim() -> None:
    """Returns freed memory to the system, which glibc keeps in one arena per thread.

    Otherwise a process that loads one version after the other would grow.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc only
        trim(0)


def _open(path, graph: int) -> tuple[int, bytes]:
    """Fills the graph; returns the session and the serialized MetaGraphDef."""
    api = load_library()
    options, buffer = api.TF_NewSessionOptions(), api.TF_NewBuffer()
    config, tags = _session_config(), (TEXT * 1)(_TAG)
    try:
        with check_status() as status:
            api.TF_SetConfig(options, config, len(config), status)
        with check_status() as status:
            session = api.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(path), tags, 1, graph, buffer, status
            )
        meta = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    finally:
        api.TF_DeleteSessionOptions(options)
        api.TF_DeleteBuffer(buffer)
    return session, meta


def _signatures(meta) -> dict[str, meta_graph_pb2.SignatureDef]:
    result = {}
    for name, definition in meta.signature_def.items():
        result[name] = meta_graph_pb2.SignatureDef()  # does not keep `meta` alive
        result[name].CopyFrom(definition)
    return result


def _operations(meta) -> dict[str, frozenset[str]]:
    graph = meta.graph_def
    nodes = {node.name: node for node in graph.node}
    bodies = {f.signature.name: f.node_def for f in graph.library.function}
    result = {}
    for name, definition in meta.signature_def.items():
        outputs = [_node_name(info.name) for info in definition.outputs.values()]
        ancestors = _closure(outputs, lambda n: map(_node_name, nodes[n].input), nodes)
        ops = {nodes[n].op for n in ancestors}
        callees = {f for n in ancestors for f in _callees(nodes[n])}
        inner = _closure(callees, lambda f: chain(*map(_callees, bodies[f])), bodies)
        ops.update(node.op for f in inner for node in bodies[f])
        result[name] = frozenset(ops)
    return result


def _closure(start, successors, known) -> set[str]:
    """Returns the known names that are reachable from `start`."""
    closure, stack = set(), list(start)
    while stack:
        if (name := stack.pop()) in known and name not in closure:
            closure.add(name)
            stack.extend(successors(name))
    return closure


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _callees(node) -> list[str]:
    """Returns the names of functions that a node may call."""
    attributes = [f for a in node.attr.values() for f in (a.func, *a.list.func)]
    return [node.op, *(f.name for f in attributes)]


def _session_config() -> bytes:
    """Returns session settings with the devices that Python uses.

    Two sessions in one process must not use different GPUs.
    """
    eager = context.context().config
    config = config_pb2.ConfigProto(
        device_count=eager.device_count, gpu_options=eager.gpu_options
    )
    return config.SerializeToString()


def _check_signature(signature: str, inputs, outputs, feeds) -> None:
    if set(inputs) != set(feeds):
        message = (
            f"Signature '{signature}' takes {', '.join(sorted(inputs))}; received "
            f"{', '.join(sorted(feeds)) or 'nothing'}."
        )
        raise tf.errors.InvalidArgumentError(None, None, message)
    for key, info in {**inputs, **outputs}.items():
        if not (info.name and tf.as_dtype(info.dtype).is_numpy_compatible):
            raise _unimplemented(f"'{key}' of the signature is not a dense tensor.")


def _unimplemented(message: str) -> tf.errors.UnimplementedError:
    return tf.errors.UnimplementedError(None, None, message)


def _array(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
    array = np.array(value, dtype.as_numpy_dtype, order="C")
    if dtype == tf.string and not all(isinstance(s, bytes) for s in array.flat):
        raise TypeError(f"Input '{name}' takes bytes, in lists of one length.")
    return array
