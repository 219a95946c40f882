"""Calls as TensorFlow Serving's REST, and replies out of its JSON."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from mmkeras.schema import (
    CLASSIFY,
    LABEL,
    PROBABILITIES,
    SCORE,
    SERVING_DEFAULT,
    STATUS,
)
from serving.client.errors import TRANSIENT, PredictError, not_understood
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

# TensorFlow Serving's, and those that a gateway before it gives.
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
_OVERHEAD = 16  # bytes around one string of a request
_FIXED = 2048  # bytes of a request beside its strings
_SHOWN = 300  # characters of an answer that is no JSON


@dataclass(frozen=True)
class EncodedCall:
    """A call on its way.

    Attributes:
        method: GET or POST.
        path: Behind the address of the server.
        content: The body.
        read: Makes the reply out of (status, Retry-After, body); a PredictError
            where the server says so, or its answer cannot be read.
    """

    method: str
    path: str
    content: bytes
    read: Callable[[int, str | None, bytes], Reply]


def send(call: Call, target: str) -> EncodedCall:
    """Makes the request of a call."""
    if isinstance(call, PredictCall):
        path, body = f"{_path(call.spec)}:predict", _ask(call)
        return _sent("POST", path, body, _outputs, target)
    if isinstance(call, MetadataCall):
        path = f"{_path(call.spec)}/metadata"
        return _sent("GET", path, None, _description, target)
    if isinstance(call, ClassNamesCall):
        path = f"{_path(call.spec)}:classify"
        body = {"signature_name": CLASSIFY, "examples": [{call.modality: ""}]}
        return _sent("POST", path, body, _classes, target)
    return _sent("GET", _path(ModelSpec(model=call.model)), None, _versions, target)


def row_bytes(row: dict[str, bytes]) -> int:
    """Returns how much of a request a row takes, in base64."""
    return sum((len(content) + 2) // 3 * 4 + _OVERHEAD for content in row.values())


def budget_bytes(largest: int) -> int:
    """Returns how much of a request of `largest` bytes is there for rows."""
    return largest - _FIXED


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{quote(spec.model, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    if spec.label is not None:
        return f"{path}/labels/{quote(spec.label, safe='')}"
    return path


def _sent(method, path, body, read, target) -> EncodedCall:
    content = b"" if body is None else json.dumps(body).encode()
    read = partial(_read, read, target)
    return EncodedCall(method=method, path=path, content=content, read=read)


def _read(read, target, status, retry_after, content) -> Reply:
    if status != 200:
        raise _error(target, status, retry_after, content)
    try:
        return read(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        why = f"{type(error).__name__} {error} in {_text(content)!r}"
        raise not_understood(target, why) from None


def _error(target, status, retry_after, content) -> PredictError:
    code = _CODES.get(status, "UNKNOWN")
    try:
        text = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
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
    return content[:_SHOWN].decode("utf-8", "replace").strip()


def _description(found) -> ModelMetadata:
    signatures = found["metadata"]["signature_def"]["signature_def"]
    version = found["model_spec"].get("version")
    return ModelMetadata(
        version=None if version in (None, "") else int(version),
        inputs={k: tuple(sorted(s.get("inputs", {}))) for k, s in signatures.items()},
        outputs={k: tuple(sorted(s.get("outputs", {}))) for k, s in signatures.items()},
    )


def _classes(found) -> tuple[str, ...]:
    (row,) = found["results"]
    return tuple(str(label) for label, _ in row)


def _ask(call) -> dict:
    columns = {
        modality: [{"b64": b64encode(content).decode()} for content in column]
        for modality, column in call.columns.items()
    }
    return {"signature_name": SERVING_DEFAULT, "inputs": columns}


def _outputs(found) -> Outputs:
    outputs = found["outputs"]
    return Outputs(
        version=None,
        probabilities=[[float(p) for p in row] for row in outputs[PROBABILITIES]],
        labels=[str(label) for label in outputs[LABEL]],
        scores=[float(score) for score in outputs[SCORE]],
        statuses=[str(status) for status in outputs[STATUS]],
    )


def _versions(found) -> dict[int, str]:
    states = {int(s["version"]): s["state"] for s in found["model_version_status"]}
    return dict(sorted(states.items(), reverse=True))
