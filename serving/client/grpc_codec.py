"""Encoder and decoder of calls as messages of TensorFlow Serving's gRPC API."""

from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message

from mmkeras import schema
from serving.client import tensors
from serving.client.descriptors import message_class
from serving.client.errors import response_error
from serving.client.requests import (
    N_BEST_OUTPUTS,
    OUTPUTS,
    TEXT_OUTPUTS,
    Call,
    Cell,
    ClassNamesCall,
    ColumnsCall,
    EncodedCall,
    MetadataCall,
    ModelMetadata,
    ModelSpec,
    Outputs,
    PredictCall,
    Reply,
    VersionsCall,
)

_PACKAGE = "tensorflow.serving"
_GET_METADATA = "GetModelMetadata"
_RESPONSES = {"Classify": "ClassificationResponse"}  # others as their methods
_CELL_BYTES = 24  # upper bound of a number, or of what is around a string


def encode(call: Call, target: str) -> EncodedCall:
    """Returns the request of a call; `target` is named in errors."""
    service, method, request, decode = _METHODS[type(call)]
    response = _RESPONSES.get(method, f"{method}Response")
    return EncodedCall(
        path=f"/{_PACKAGE}.{service}Service/{method}",
        content=request(call).SerializeToString(),
        decode=partial(_decode, decode, response, target),
    )


def row_bytes(row: dict[str, Cell]) -> int:
    """Returns an upper bound of a row's bytes in a request."""
    strings = (cell for cell in row.values() if isinstance(cell, bytes))
    return sum(map(len, strings)) + _CELL_BYTES * len(row)


def _message(name: str) -> Any:
    return message_class(f"{_PACKAGE}.{name}")()


def _decode(decode: Callable, name: str, target: str, content: bytes) -> Reply:
    response = _message(name)
    try:
        response.ParseFromString(content)
        return decode(response)
    # RecursionError: nested groups, in protobuf's implementation in Python.
    except (DecodeError, ValueError, RecursionError) as error:
        raise response_error(target, str(error)) from None


def _fill_spec(message: Any, spec: ModelSpec, signature: str = "") -> None:
    message.name, message.signature_name = spec.model, signature
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label


def _version(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _metadata_request(call: MetadataCall) -> Message:
    request = _message("GetModelMetadataRequest")
    _fill_spec(request.model_spec, call.spec)
    request.metadata_field.append("signature_def")
    return request


def _decode_metadata(response) -> ModelMetadata:
    signature_map = _message("SignatureDefMap")
    signature_map.ParseFromString(response.metadata["signature_def"].value)
    signatures = signature_map.signature_def
    return ModelMetadata(
        version=_version(response.model_spec),
        inputs={name: _dtypes(signatures[name].inputs) for name in signatures},
        outputs={name: tuple(sorted(signatures[name].outputs)) for name in signatures},
    )


def _dtypes(inputs) -> dict[str, str]:
    return {n: tensors.DTYPES.get(inputs[n].dtype, "") for n in sorted(inputs)}


def _columns_request(call: ColumnsCall) -> Message:
    request = _message("PredictRequest")
    _fill_spec(request.model_spec, call.spec, schema.COLUMNS)
    tensors.fill(request.inputs[schema.CLASSIFY_INPUT], [b""])
    return request


def _decode_columns(response) -> dict[str, str]:
    keys = (schema.COLUMN_NAMES, schema.COLUMN_TYPES)
    names, types = (tensors.strings(response.outputs[key]) for key in keys)
    return dict(zip(names, types, strict=True))


def _classify_request(call: ClassNamesCall) -> Message:
    request = _message("ClassificationRequest")
    _fill_spec(request.model_spec, call.spec, schema.CLASSIFY)
    example = request.input.example_list.examples.add()
    for name, cell in call.row.items():
        feature = example.features.feature[name]
        is_number = isinstance(cell, float)
        values = feature.float_list if is_number else feature.bytes_list
        values.value.append(cell)
    return request


def _decode_classes(response) -> tuple[str, ...]:
    rows = response.result.classifications
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} rows classified instead of 1")
    return tuple(entry.label for entry in rows[0].classes)


def _predict_request(call: PredictCall) -> Message:
    request = _message("PredictRequest")
    _fill_spec(request.model_spec, call.spec, schema.SERVING_DEFAULT)
    for name, column in call.columns.items():
        tensors.fill(request.inputs[name], column)
    request.output_filter.extend(call.outputs)
    return request


def _decode_outputs(response) -> Outputs:
    outputs = response.outputs
    if schema.GENERATED in outputs:
        return _decode_texts(response)
    if schema.VALUE in outputs and schema.STATUS in outputs:
        return Outputs(
            version=_version(response.model_spec),
            probabilities=[],
            labels=[],
            scores=[],
            statuses=tensors.strings(outputs[schema.STATUS]),
            values=tensors.floats(outputs[schema.VALUE]),
        )
    _check_names(outputs, OUTPUTS)
    return Outputs(
        version=_version(response.model_spec),
        probabilities=tensors.matrix(outputs[schema.PROBABILITIES]),
        labels=tensors.strings(outputs[schema.LABEL]),
        scores=tensors.floats(outputs[schema.SCORE]),
        statuses=tensors.strings(outputs[schema.STATUS]),
    )


def _decode_texts(response) -> Outputs:
    """Returns the outputs of a generator."""
    outputs, n_best = response.outputs, {}
    _check_names(outputs, TEXT_OUTPUTS)
    if schema.N_BEST in outputs:
        _check_names(outputs, N_BEST_OUTPUTS)
        n_best = {
            "n_best": tensors.string_matrix(outputs[schema.N_BEST]),
            "n_best_scores": tensors.matrix(outputs[schema.N_BEST_SCORE]),
        }
    return Outputs(
        version=_version(response.model_spec),
        probabilities=[],
        labels=[],
        scores=tensors.floats(outputs[schema.SCORE]),
        statuses=tensors.strings(outputs[schema.STATUS]),
        texts=tensors.strings(outputs[schema.GENERATED]),
        **n_best,
    )


def _check_names(outputs, names) -> None:
    for name in names:
        if name not in outputs:
            raise ValueError(f"there is no output '{name}'")


def _status_request(call: VersionsCall) -> Message:
    request = _message("GetModelStatusRequest")
    request.model_spec.name = call.model
    return request


def _decode_versions(response) -> dict[int, str]:
    descriptor = message_class(f"{_PACKAGE}.ModelVersionStatus").DESCRIPTOR
    states = descriptor.fields_by_name["state"].enum_type.values_by_number
    return {
        entry.version: states[entry.state].name
        for entry in sorted(response.model_version_status, key=lambda s: -s.version)
        if entry.state in states
    }


# Call -> service, method, encoder, decoder.
_METHODS = {
    PredictCall: ("Prediction", "Predict", _predict_request, _decode_outputs),
    MetadataCall: ("Prediction", _GET_METADATA, _metadata_request, _decode_metadata),
    ColumnsCall: ("Prediction", "Predict", _columns_request, _decode_columns),
    ClassNamesCall: ("Prediction", "Classify", _classify_request, _decode_classes),
    VersionsCall: ("Model", "GetModelStatus", _status_request, _decode_versions),
}
