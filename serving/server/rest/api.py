"""Actions of the REST API: the body of a request to the JSON of its response.

Source: model_servers/http_rest_api_handler.cc and http_rest_api_util.cc of TensorFlow
Serving 2.16.1. Difference: `predict` takes a form as one row.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.classification_pb2 import (
    ClassificationRequest,
    ClassificationResult,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest, RegressionResult

from mmkeras.environment.protobuf import DEFAULTS
from mmkeras.schema import SERVING_DEFAULT
from serving.server.deadline import Deadline
from serving.server.engine.data_plane import DataPlane
from serving.server.engine.decompression import decompress_gzip
from serving.server.engine.predict import run_signature
from serving.server.engine.servable import Servable
from serving.server.errors import deadline_exceeded, invalid_argument
from serving.server.rest import form
from serving.server.rest.json_document import format_json, parse_json, signature_name
from serving.server.rest.json_examples import parse_examples
from serving.server.rest.json_inputs import InputType, parse_inputs
from serving.server.rest.json_rows import build_document, read_document, reserve_values
from serving.server.rest.json_tensors import content_bytes, format_outputs, is_finite
from serving.server.rest.routes import Route

# Copies of the inputs while they run, and of the outputs until their JSON is written:
# TensorFlow's tensors and arrays; texts, base64 and JSON.
_RUN_COPIES, _JSON_COPIES = 3, 6
_NONFINITE_COPIES = 4  # lists of Python's numbers
_FORM_COPIES = 6  # parts, texts of four bytes per character, and values
_LARGE_BYTES = 2**20
_INFERENCES = {
    "classify": ClassificationRequest,
    "regress": RegressionRequest,
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Complete request.

    `acquire(bytes)` reserves memory, or raises ServingError. `large` limits the large
    bodies and outputs that are converted at once: each step of it blocks other threads.
    """

    route: Route
    body: bytes | bytearray
    content_type: str
    is_gzip: bool
    max_bytes: int
    acquire: Callable[[int], None]
    deadline: Deadline
    large: threading.Semaphore

    @contextmanager
    def convert(self, size: int) -> Iterator[None]:
        """Waits for a turn to convert `size` bytes, if they are many."""
        is_large = size >= _LARGE_BYTES
        if is_large and not self.large.acquire(timeout=self.deadline.remaining_s()):
            raise deadline_exceeded("The time was over in the queue of large bodies.")
        try:
            yield
        finally:
            if is_large:
                self.large.release()


def run_action(data_plane: DataPlane, request: Request) -> bytes:
    """Returns the JSON of the response, or raises ServingError."""
    route, deadline = request.route, request.deadline
    if route.action == "status":
        status = GetModelStatusRequest(model_spec=route.spec)
        return format_json(_to_dict(data_plane.get_model_status(status)))
    if route.action == "metadata":
        return _format_metadata(data_plane, route)
    body = request.body
    if request.is_gzip:
        with request.convert(len(body)):
            body = decompress_gzip(body, request.max_bytes, request.acquire, deadline)
    if route.action == "predict":
        return _predict(data_plane, request, body)
    with request.convert(len(body)):
        document = read_document(body, "examples", request.acquire, deadline)
        inference = _INFERENCES[route.action](model_spec=route.spec)
        inference.model_spec.signature_name = signature_name(document.members)
        inference.input.CopyFrom(parse_examples(document))
    response = getattr(data_plane, route.action)(inference, deadline)
    return format_json({"results": _results(response.result)})


def _predict(data_plane: DataPlane, request: Request, body: bytes | bytearray) -> bytes:
    with data_plane.admit(request.route.spec) as handle:
        servable = handle.servable
        with request.convert(len(body)):
            signature, arrays, by_row = _parse_inputs(servable, request, body)
        request.acquire(_RUN_COPIES * content_bytes(arrays))
        outputs = run_signature(servable, signature, arrays, request.deadline)
    size = content_bytes(outputs)
    if not all(map(is_finite, outputs.values())):
        size *= _NONFINITE_COPIES
    request.acquire(_JSON_COPIES * size)
    with request.convert(size):
        return format_outputs(outputs, by_row)


def _parse_inputs(
    servable: Servable, request: Request, body: bytes | bytearray
) -> tuple[SignatureDef, dict[str, np.ndarray], bool]:
    """Returns the signature of a body, its arrays, and whether it has rows."""
    is_form = request.content_type.lower().startswith(form.CONTENT_TYPE)
    if is_form:
        request.acquire(_FORM_COPIES * len(body))
        fields = form.parse_form(body, request.content_type, request.deadline)
        name = fields.pop("signature_name", b"").decode(errors="replace")
    else:
        document = read_document(body, "instances", request.acquire, request.deadline)
        name = signature_name(document.members)
    signature = _find_signature(servable.signatures, name)
    types = _input_types(signature)
    if is_form:
        row = _form_row(fields, types, request.acquire)
        document = build_document([row])
    infos = (signature.inputs.values(), signature.outputs.values())
    tensors = ([info.name for info in side] for side in infos)
    servable.check_rows(document.row_count, *tensors)
    arrays, by_row = parse_inputs(document, types)
    return signature, arrays, by_row


def _find_signature(signatures: Mapping[str, SignatureDef], name: str) -> SignatureDef:
    signature = signatures.get(name or SERVING_DEFAULT)
    if signature is None:
        raise invalid_argument(
            f'Serving signature name: "{name or SERVING_DEFAULT}" not found in '
            "signature def"
        )
    if not signature.inputs:
        raise invalid_argument(
            f"Failed to get input map for signature: {name or 'DEFAULT'}"
        )
    return signature


def _input_types(signature: SignatureDef) -> dict[str, InputType]:
    """Returns {input: type}. An input of one string per row may be left out."""
    types = {}
    for name in sorted(signature.inputs):
        info = signature.inputs[name]
        dims = info.tensor_shape.dim
        per_row = len(dims) == 1 and dims[0].size < 0
        kind = types_pb2.DataType.Name(info.dtype).removeprefix("DT_").lower()
        types[name] = InputType(kind, per_row and info.dtype == types_pb2.DT_STRING)
    return types


def _form_row(
    fields: Mapping[str, bytes], types: Mapping[str, InputType], acquire: Callable
) -> dict[str, Any]:
    """Returns a row: content for inputs of strings, and JSON for the others."""
    row: dict[str, Any] = {}
    for name, content in fields.items():
        is_json = name in types and types[name].name != "string"
        if is_json:
            reserve_values(content, acquire, name)
        row[name] = parse_json(content) if is_json else content
    return row


def _results(result: ClassificationResult | RegressionResult) -> list:
    if isinstance(result, RegressionResult):
        if not result.regressions:
            raise invalid_argument("Cannot convert empty RegressionResults to JSON")
        return [np.float32(item.value) for item in result.regressions]
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    return [
        [[item.label, np.float32(item.score)] for item in example.classes]
        for example in result.classifications
    ]


def _format_metadata(data_plane: DataPlane, route: Route) -> bytes:
    response = data_plane.get_model_metadata(
        GetModelMetadataRequest(model_spec=route.spec, metadata_field=["signature_def"])
    )
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return format_json(
        {
            "model_spec": _to_dict(response.model_spec, preserve_names=True),
            "metadata": {"signature_def": _to_dict(signatures, preserve_names=True)},
        }
    )


def _to_dict(message: Message, preserve_names: bool = False) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, **DEFAULTS, preserving_proto_field_name=preserve_names
    )
