"""Encoder and decoder of calls as JSON of TensorFlow Serving's REST API."""

import json
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from mmkeras import schema
from serving.client.errors import TRANSIENT, PredictError, response_error
from serving.client.requests import (
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
)

# HTTP statuses of TensorFlow Serving, and of a gateway in front of it.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    412: "FAILED_PRECONDITION",
    413: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_NUMBER_BYTES = 26  # upper bound of a number in a request
_STRING_BYTES = 16  # upper bound of the bytes around one string of a request
_SHOWN_BYTES = 300  # of a response that is not JSON
# Errors of the JSON parser and of the decoders, for any response.
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,  # a number beyond a double, or infinity as an integer
    RecursionError,  # thousands of nested arrays
)


def encode(call: Call, target: str) -> EncodedCall:
    """Returns the request of a call; `target` is named in errors.

    `decode` of the result takes the status, the header Retry-After and the body.
    """
    body = None
    if isinstance(call, PredictCall):
        path, decode = f"{_path(call.spec)}:predict", _decode_outputs
        body = {"signature_name": schema.SERVING_DEFAULT, "inputs": _columns(call)}
    elif isinstance(call, MetadataCall):
        path, decode = f"{_path(call.spec)}/metadata", _decode_metadata
    elif isinstance(call, ColumnsCall):
        path, decode = f"{_path(call.spec)}:predict", _decode_columns
        inputs = {schema.CLASSIFY_INPUT: [""]}
        body = {"signature_name": schema.COLUMNS, "inputs": inputs}
    elif isinstance(call, ClassNamesCall):
        path, decode = f"{_path(call.spec)}:classify", _decode_classes
        example = {name: _json_cell(cell) for name, cell in call.row.items()}
        body = {"signature_name": schema.CLASSIFY, "examples": [example]}
    else:
        path, decode = _path(ModelSpec(model=call.model)), _decode_versions
    return EncodedCall(
        method="GET" if body is None else "POST",
        path=path,
        content=b"" if body is None else json.dumps(body).encode(),
        decode=partial(_decode, decode, target),
    )


def row_bytes(row: dict[str, Cell]) -> int:
    """Returns an upper bound of a row's bytes in a request, in base64."""
    strings = [cell for cell in row.values() if isinstance(cell, bytes)]
    size = sum((len(cell) + 2) // 3 * 4 + _STRING_BYTES for cell in strings)
    return size + _NUMBER_BYTES * (len(row) - len(strings))


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{quote(spec.model, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    if spec.label is not None:
        return f"{path}/labels/{quote(spec.label, safe='')}"
    return path


def _columns(call: PredictCall) -> dict[str, list]:
    return {name: list(map(_json_cell, cells)) for name, cells in call.columns.items()}


def _json_cell(cell: Cell) -> dict[str, str] | float:
    """Returns bytes as base64, and a number unchanged: TF Serving reads NaN."""
    return cell if isinstance(cell, float) else {"b64": b64encode(cell).decode()}


def _decode(decode, target, status, retry_after, content) -> Reply:
    if status != 200:
        raise _error(target, status, retry_after, content)
    try:
        return decode(json.loads(content))
    except _UNREADABLE as error:
        reason = f"{type(error).__name__} {error} in {_text(content)!r}"
        raise response_error(target, reason) from None


def _error(target, status, retry_after, content) -> PredictError:
    code = _CODES.get(status, "UNKNOWN")
    try:
        text = _string(json.loads(content)["error"])
    except _UNREADABLE:
        text = _text(content) or f"HTTP status {status}"
    wait = (retry_after or "").strip()
    return PredictError(
        code,
        text,
        target=target,
        is_transient=code in TRANSIENT,
        retry_after_s=float(wait) if wait.isdecimal() else None,
    )


def _text(content: bytes) -> str:
    return content[:_SHOWN_BYTES].decode("utf-8", "replace").strip()


def _string(value) -> str:
    """Returns the text of a value; JSON can have surrogates, which UTF-8 lacks."""
    return str(value).encode("utf-8", "replace").decode()


def _decode_metadata(body) -> ModelMetadata:
    signatures = body["metadata"]["signature_def"]["signature_def"]
    version = body["model_spec"].get("version")
    return ModelMetadata(
        version=None if version in (None, "") else int(version),
        inputs={name: _dtypes(s, "inputs") for name, s in signatures.items()},
        outputs={name: tuple(_dtypes(s, "outputs")) for name, s in signatures.items()},
    )


def _dtypes(signature, side: str) -> dict[str, str]:
    infos = sorted(signature.get(side, {}).items())
    return {_string(name): _string(info.get("dtype", "")) for name, info in infos}


def _decode_columns(body) -> dict[str, str]:
    keys = (schema.COLUMN_NAMES, schema.COLUMN_TYPES)
    ((names,), (types,)) = (body["outputs"][key] for key in keys)
    return dict(zip(map(_string, names), map(_string, types), strict=True))


def _decode_classes(body) -> tuple[str, ...]:
    (row,) = body["results"]
    return tuple(_string(label) for label, _ in row)


def _decode_outputs(body) -> Outputs:
    outputs = body["outputs"]
    if schema.GENERATED in outputs:
        return _decode_texts(outputs)
    if schema.VALUE in outputs:
        return Outputs(
            version=None,
            probabilities=[],
            labels=[],
            scores=[],
            statuses=list(map(_string, outputs[schema.STATUS])),
            values=list(map(float, outputs[schema.VALUE])),
        )
    return Outputs(
        version=None,
        probabilities=_matrix(outputs[schema.PROBABILITIES], float),
        labels=list(map(_string, outputs[schema.LABEL])),
        scores=list(map(float, outputs[schema.SCORE])),
        statuses=list(map(_string, outputs[schema.STATUS])),
    )


def _decode_texts(outputs) -> Outputs:
    """Returns the outputs of a generator."""
    n_best = {}
    if schema.N_BEST in outputs:
        n_best = {
            "n_best": _matrix(outputs[schema.N_BEST], _string),
            "n_best_scores": _matrix(outputs[schema.N_BEST_SCORE], float),
        }
    return Outputs(
        version=None,
        probabilities=[],
        labels=[],
        scores=list(map(float, outputs[schema.SCORE])),
        statuses=list(map(_string, outputs[schema.STATUS])),
        texts=list(map(_string, outputs[schema.GENERATED])),
        **n_best,
    )


def _matrix(rows, convert: Callable) -> list[list]:
    result = [list(map(convert, row)) for row in rows]
    if len({len(row) for row in result}) > 1:
        raise ValueError("rows of different lengths")
    return result


def _decode_versions(body) -> dict[int, str]:
    states = {int(s["version"]): s["state"] for s in body["model_version_status"]}
    return dict(sorted(states.items(), reverse=True))
