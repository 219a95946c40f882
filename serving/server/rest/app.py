"""REST API as a WSGI application.

Source: model_servers/http_rest_api_handler.cc, http_rest_api_util.cc and
http_server.cc of TensorFlow Serving 2.16.1. Differences: paths outside /v1/ and
versions above 64 bits get {"error": ...} too, instead of HTML and an empty body; a
decompressed body has the same size limit as a plain one, and damaged compression is an
error; latencies are observed for predictions only.
"""

import logging
import re
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.decompression import GZIP, TooLargeError, decompress
from serving.server.errors import ServingError, deadline_exceeded, invalid_argument
from serving.server.rest import responses
from serving.server.rest.json_examples import parse_examples_request
from serving.server.rest.predict_request import parse_predict_request

# WSGI environment: ServingError of a rejected request, or None.
REFUSED = "serving.refused"
# WSGI environment: time.monotonic() of the request's arrival.
ARRIVED = "serving.arrived"

Application = Callable[[dict[str, Any], Callable], Iterable[bytes]]

_log = logging.getLogger(__name__)
_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_POST = re.compile(rf"{_MODEL}:(classify|regress|predict)", _FLAGS)
_GET = re.compile(rf"{_MODEL}(?:/(metadata))?", _FLAGS)
_NO_MODEL = re.compile(
    r"/v1/models(?:/versions/\d+|/labels/[^/:]+)?(?:/metadata)?", _FLAGS
)
_API = re.compile(r"/v1/.*", _FLAGS)
_JSON, _PLAIN = "application/json", "text/plain"
# Memory of a Python number in a list, and of a list or dict.
_VALUE_BYTES, _CONTAINER_BYTES = 32, 120
_LARGEST_VERSION = 2**63 - 1
_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_PHRASES[499] = "Client Closed Request"


@dataclass(frozen=True)
class _Route:
    """Parsed path; `action` is predict, classify, regress, status or metadata."""

    action: str
    spec: model_pb2.ModelSpec


def build_app(
    data_plane: Any,
    *,
    timeout_s: float | None = 30.0,
    metrics_path: str | None = None,
    max_body_bytes: int = 256 * 2**20,
    max_parsed_bytes: int = 2**30,
) -> Application:
    """Builds the WSGI application.

    Args:
        data_plane: DataPlane that runs the requests.
        timeout_s: Timeout of a request from its arrival; None: no timeout.
        metrics_path: Path of the Prometheus page; None: no page.
        max_body_bytes: Maximum size of a body, also decompressed.
        max_parsed_bytes: Maximum memory of the parsed values of all bodies.
    """
    memory = WeightedSemaphore(max_parsed_bytes, "bytes of parsed bodies")

    def application(environ, start_response):
        target = _target(environ)
        path = re.split("[?#]", target)[0]
        if path == metrics_path:
            status, kind, text = _render_metrics(data_plane.metrics, target, path)
        else:
            kind = _JSON
            status, text = _handle(
                data_plane, environ, target, timeout_s, max_body_bytes, memory
            )
        body = text.encode()
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(f"{status} {_PHRASES[status]}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def _target(environ: dict[str, Any]) -> str:
    """Returns path and query in their original, escaped form."""
    target = environ.get("REQUEST_URI")
    if target is None:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        query = environ.get("QUERY_STRING", "")
        target = quote(path, safe="/:", encoding="latin-1") + "?" * bool(query) + query
    target = re.sub(r"^[a-zA-Z][a-zA-Z\d+.-]*://[^/?#]*", "", target) or "/"
    return target.encode("latin-1").decode(errors="replace")


def _render_metrics(metrics: Any, target: str, path: str) -> tuple[int, str, str]:
    if target != path:
        return 400, _PLAIN, f"Unexpected path: {target}. Should be {path}"
    return 200, _PLAIN, metrics.render()


def _handle(
    data_plane: Any,
    environ: dict[str, Any],
    target: str,
    timeout_s: float | None,
    max_body_bytes: int,
    memory: WeightedSemaphore,
) -> tuple[int, str]:
    """Returns the HTTP status and the body of the response; updates the metrics."""
    started_s = environ.get(ARRIVED) or time.monotonic()
    deadline = Deadline(timeout_s, started_s)
    route, code, name = None, grpc.StatusCode.OK, ""
    method = environ["REQUEST_METHOD"]
    try:
        if not _API.fullmatch(target):
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"There is nothing at {method} {target}"
            )
        route = _route(method, target)
        name = route.spec.name
        if error := environ.get(REFUSED):
            raise error
        if deadline.is_over:
            raise deadline_exceeded("The time for the request was over in the queue.")
        with data_plane.bytes.acquire_incrementally() as acquire:
            body = b""
            if method == "POST":
                body = _body(environ, max_body_bytes, acquire)
            with memory.try_acquire(_parsed_bytes(body)):
                text = _dispatch(data_plane, route, body, deadline)
        status = 200
    except ServingError as error:
        code, text = error.code, responses.format_error(error.truncated_message)
        status = 413 if isinstance(error, TooLargeError) else _STATUS.get(code, 500)
    except Exception:
        _log.exception("%s %s has failed", method, target)
        code, status = grpc.StatusCode.INTERNAL, 500
        text = responses.format_error("Internal error: the server's log has more.")
    data_plane.metrics.request_count.increment(model_name=name, status=code.name)
    if status == 200 and method == "POST":
        data_plane.metrics.request_latency.observe(
            (time.monotonic() - started_s) * 1e6,
            model_name=name,
            API=route.action,
            entrypoint="REST",
        )
    return status, text


def _route(method: str, target: str) -> _Route:
    match = None
    if method == "POST":
        match = _POST.fullmatch(target)
    elif method == "GET":
        match = _GET.fullmatch(target)
        if not match and _NO_MODEL.fullmatch(target):
            raise invalid_argument("Missing model name in request.")
    if not match or (method == "POST" and match[4] != match[4].lower()):
        raise invalid_argument(f"Malformed request: {method} {target}")
    name, version, label, action = match.groups()
    spec = model_pb2.ModelSpec(name=_unquote(name))
    if version is not None:
        if len(version) > 40 or int(version) > _LARGEST_VERSION:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label is not None:
        spec.version_label = _unquote(label)
    return _Route(action or "status", spec)


def _unquote(text: str) -> str:
    return unquote_to_bytes(text).decode(errors="replace")


def _body(environ: dict[str, Any], limit: int, acquire: Callable[[int], None]) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    try:
        if length > limit:
            raise TooLargeError(grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        acquire(length)
        body = environ["wsgi.input"].read(length)
        if "gzip" in environ.get("HTTP_CONTENT_ENCODING", ""):
            return _decompress_body(body, limit, acquire)
        return body
    except TooLargeError as error:
        raise TooLargeError(
            error.code,
            f"The body has more than {limit} bytes, which is the most that is taken.",
        ) from None


def _parsed_bytes(body: bytes) -> int:
    """Estimates the memory of a body's values; three bytes can be a list."""
    containers = body.count(b"[") + body.count(b"{")
    return len(body) + _VALUE_BYTES * body.count(b",") + _CONTAINER_BYTES * containers


def _decompress_body(body: bytes, limit: int, acquire: Callable[[int], None]) -> bytes:
    parts, limit_left = [], limit
    try:
        while body:  # a gzip file may have several members
            part, body = decompress(body, GZIP, limit_left, acquire)
            parts.append(part)
            limit_left -= len(part)
    except zlib.error as error:
        raise invalid_argument(
            f"The body cannot be decompressed as Content-Encoding: gzip: {error}."
        ) from None
    return b"".join(parts)


def _dispatch(data_plane: Any, route: _Route, body: bytes, deadline: Deadline) -> str:
    spec = route.spec
    if route.action == "predict":
        request, by_row = parse_predict_request(body, spec, data_plane.signatures)
        outputs = data_plane.predict(request, deadline).outputs
        return responses.format_predict(outputs, by_row)
    if route.action == "classify":
        request = parse_examples_request(
            body, spec, classification_pb2.ClassificationRequest
        )
        return responses.format_classify(data_plane.classify(request, deadline).result)
    if route.action == "regress":
        request = parse_examples_request(body, spec, regression_pb2.RegressionRequest)
        return responses.format_regress(data_plane.regress(request, deadline).result)
    if route.action == "metadata":
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        return responses.format_metadata(data_plane.get_model_metadata(request))
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
    return responses.format_status(data_plane.get_model_status(request))
