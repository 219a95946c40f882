"""Calls as messages of TensorFlow Serving's gRPC, and replies out of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from mmkeras.schema import (
    CLASSIFY,
    LABEL,
    PROBABILITIES,
    SCORE,
    SERVING_DEFAULT,
    STATUS,
)
from serving.client import tensors
from serving.client.descriptors import message
from serving.client.errors import not_understood
from serving.client.requests import (
    Call,
    ClassNamesCall,
    MetadataCall,
    ModelMetadata,
    ModelSpec,
    Outputs,
    PredictCall,
    Reply,
)

_PACKAGE = "tensorflow.serving"
_OVERHEAD = 24  # bytes around one string of a request, and more than that
_FIXED = 2048  # bytes of a request beside its strings


@dataclass(frozen=True)
class EncodedCall:
    """A call on its way.

    Attributes:
        path: Method, as gRPC names it.
        content: The request.
        read: Makes the reply out of the response's bytes; a PredictError where that
            is impossible.
    """

    path: str
    content: bytes
    read: Callable[[bytes], Reply]


def send(call: Call, target: str) -> EncodedCall:
    """Makes the request of a call."""
    if isinstance(call, PredictCall):
        return _sent("Prediction", "Predict", _ask(call), _outputs, target)
    if isinstance(call, MetadataCall):
        method = "GetModelMetadata"
        return _sent("Prediction", method, _describe(call), _description, target)
    if isinstance(call, ClassNamesCall):
        return _sent("Prediction", "Classify", _name(call), _classes, target)
    request = message(f"{_PACKAGE}.GetModelStatusRequest")()
    request.model_spec.name = call.model
    return _sent("Model", "GetModelStatus", request, _versions, target)


def row_bytes(row: dict[str, bytes]) -> int:
    """Returns how much of a request a row takes, or a little more."""
    return sum(len(content) + _OVERHEAD for content in row.values())


def budget_bytes(largest: int) -> int:
    """Returns how much of a request of `largest` bytes is there for rows."""
    return largest - _FIXED


def _sent(service, method, request, read, target) -> EncodedCall:
    return EncodedCall(
        path=f"/{_PACKAGE}.{service}Service/{method}",
        content=request.SerializeToString(),
        read=partial(_read, read, _response_of(method), target),
    )


def _response_of(method: str) -> str:
    name = {"Classify": "Classification"}.get(method, method)
    return f"{_PACKAGE}.{name}Response"


def _read(read: Callable, name: str, target: str, content: bytes) -> Reply:
    try:
        return read(message(name).FromString(content))
    except (DecodeError, ValueError) as error:
        raise not_understood(target, str(error)) from None


def _fill_spec(to: Any, spec: ModelSpec, signature: str = "") -> None:
    to.name, to.signature_name = spec.model, signature
    if spec.version is not None:
        to.version.value = spec.version
    elif spec.label is not None:
        to.version_label = spec.label


def _version(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _describe(call):
    request = message(f"{_PACKAGE}.GetModelMetadataRequest")()
    _fill_spec(request.model_spec, call.spec)
    request.metadata_field.append("signature_def")
    return request


def _description(response) -> ModelMetadata:
    signatures = message(f"{_PACKAGE}.SignatureDefMap")()
    signatures.ParseFromString(response.metadata["signature_def"].value)
    found = signatures.signature_def
    return ModelMetadata(
        version=_version(response.model_spec),
        inputs={name: tuple(sorted(found[name].inputs)) for name in found},
        outputs={name: tuple(sorted(found[name].outputs)) for name in found},
    )


def _name(call):
    request = message(f"{_PACKAGE}.ClassificationRequest")()
    _fill_spec(request.model_spec, call.spec, CLASSIFY)
    example = request.input.example_list.examples.add()
    example.features.feature[call.modality].bytes_list.value.append(b"")
    return request


def _classes(response) -> tuple[str, ...]:
    rows = response.result.classifications
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} rows classified instead of 1")
    return tuple(found.label for found in rows[0].classes)


def _ask(call):
    request = message(f"{_PACKAGE}.PredictRequest")()
    _fill_spec(request.model_spec, call.spec, SERVING_DEFAULT)
    for modality, column in call.columns.items():
        tensors.fill_strings(request.inputs[modality], column)
    request.output_filter.extend((PROBABILITIES, LABEL, SCORE, STATUS))
    return request


def _outputs(response) -> Outputs:
    for name in (PROBABILITIES, LABEL, SCORE, STATUS):
        if name not in response.outputs:
            raise ValueError(f"there is no output '{name}'")
    found = response.outputs
    return Outputs(
        version=_version(response.model_spec),
        probabilities=tensors.matrix(found[PROBABILITIES]),
        labels=tensors.strings(found[LABEL]),
        scores=tensors.floats(found[SCORE]),
        statuses=tensors.strings(found[STATUS]),
    )


def _versions(response) -> dict[int, str]:
    """States by version, newest first."""
    found = message(f"{_PACKAGE}.ModelVersionStatus").DESCRIPTOR
    states = found.fields_by_name["state"].enum_type.values_by_number
    return {
        one.version: states[one.state].name
        for one in sorted(response.model_version_status, key=lambda s: -s.version)
        if one.state in states
    }
