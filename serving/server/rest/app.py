"""REST API as an ASGI application: limits, responses and metrics of requests.

Source: model_servers/http_server.cc of TensorFlow Serving 2.16.1. Differences: paths
outside /v1/ get {"error": ...} too, instead of HTML; a decompressed body has the same
size limit as a plain one; latencies are observed for predictions only.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
from starlette import requests
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore, over_limit
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.engine.decompression import TooLargeError
from serving.server.errors import ServingError, deadline_exceeded
from serving.server.rest import api
from serving.server.rest.json_document import format_json
from serving.server.rest.routes import parse_route

_log = logging.getLogger(__name__)
_JSON = "application/json"
# Bytes above the limit that are read of a body, so that its client gets the response.
_UNREAD_BYTES = 2**20
_MAX_LARGE = 2  # large bodies and outputs that are converted at once
_PIECE = 2**18  # bytes of a response that are written at once
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


class RestApp:
    """ASGI application of the REST API.

    Attributes:
        running: Requests whose body is complete and that have no response yet.
        sending: Responses that are being sent.
        lost: Such requests and responses that were cancelled when the server stopped.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        limits: Limits,
        *,
        timeout_s: float | None = 30.0,
        metrics_path: str | None = None,
    ):
        """Creates the application and its threads.

        The timeout counts from the end of a request's body; None: no timeout. Without a
        path there is no metrics page.
        """
        self._data_plane, self._limits = data_plane, limits
        self._timeout_s, self._metrics_path = timeout_s, metrics_path
        # Slow bodies leave half of the memory to the requests that run.
        arriving_bytes = max(limits.in_flight_bytes // 2, limits.message_bytes)
        self._arriving = WeightedSemaphore(arriving_bytes, "bytes of arriving requests")
        self._threads = ThreadPoolExecutor(limits.in_flight, "rest")
        self._large = threading.Semaphore(_MAX_LARGE)
        self.running = self.sending = self.lost = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds to a request."""
        request = requests.Request(scope, receive)
        with ExitStack() as stack:
            try:
                response = await self._respond(request, _target(scope), stack)
            except requests.ClientDisconnect:
                return
            self.sending += 1
            try:
                await response(scope, receive, send)
            except asyncio.CancelledError:
                self.lost += 1
                raise
            finally:
                self.sending -= 1

    def close(self) -> None:
        """Ends the threads; busy ones end with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _respond(
        self, request: requests.Request, target: str, stack: ExitStack
    ) -> Response:
        """Returns the response; `stack` holds what it needs until it is sent."""
        path = target.partition("?")[0]
        if path == self._metrics_path:
            return self._render_metrics(target, path)
        start_s, name, action, body = time.monotonic(), "", "", None
        code, status, headers = grpc.StatusCode.OK, 200, {}
        acquire = stack.enter_context(self._data_plane.bytes.acquire_incrementally())
        try:
            route = parse_route(request.method, target)
            name, action = route.spec.name, route.action
            if action == "options":
                return Response(headers={"allow": "GET, POST, OPTIONS"})
            body = await self._read_body(request, acquire)
            start_s = time.monotonic()
            with self._count_running():
                content = await self._run(request, route, body, acquire)
            # The body and its values are not needed any more.
            acquire.resize(len(content))
        except ServingError as error:
            code, status = error.code, _STATUS.get(error.code, 500)
            status = 413 if isinstance(error, TooLargeError) else status
            content = format_json({"error": error.truncated_message})
            headers = self._close_unread(request)
        except asyncio.CancelledError:  # uvicorn stops
            self.lost += body is not None
            code, status = grpc.StatusCode.UNAVAILABLE, 503
            content = format_json({"error": "The server has stopped."})
        except requests.ClientDisconnect:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            _log.exception("%s %s has failed", request.method, target)
            code, status = grpc.StatusCode.INTERNAL, 500
            content = format_json({"error": "Internal error: see the server's log."})
        finally:
            self._count(name, action, code, time.monotonic() - start_s)
        return _build_response(content, status, headers)

    async def _read_body(
        self, request: requests.Request, acquire: Callable[[int], None]
    ) -> bytes | bytearray:
        """Reads a body, whose bytes are acquired as they come."""
        limit, body = self._limits.message_bytes, bytearray()
        too_large = TooLargeError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"The body has more than {limit} bytes, which is the limit.",
        )
        if _content_length(request) > limit:
            raise too_large
        with self._arriving.acquire_incrementally() as acquire_arriving:
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise too_large
                acquire_arriving(len(chunk))
                acquire(len(chunk))
                body += chunk
        return body

    @contextmanager
    def _count_running(self) -> Iterator[None]:
        if self.running >= self._limits.in_flight:
            raise over_limit("requests", self.running, self._limits.in_flight, 1)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def _run(self, request: requests.Request, route, body, acquire) -> bytes:
        """Runs the request in a thread; returns the content of the response."""
        complete = api.Request(
            route=route,
            body=body,
            content_type=request.headers.get("content-type", ""),
            is_gzip="gzip" in request.headers.get("content-encoding", ""),
            max_bytes=self._limits.message_bytes,
            acquire=acquire,
            deadline=Deadline(self._timeout_s),
            large=self._large,
        )

        def run() -> bytes:
            if complete.deadline.is_over:
                raise deadline_exceeded("The time was over in the queue.")
            return api.run_action(self._data_plane, complete)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _close_unread(self, request: requests.Request) -> dict[str, str]:
        """Returns the header that ends the connection, if much of a body is unread."""
        limit = self._limits.message_bytes + _UNREAD_BYTES
        is_chunked = "transfer-encoding" in request.headers
        if is_chunked or _content_length(request) > limit:
            return {"connection": "close"}
        return {}

    def _count(self, name: str, action: str, code: grpc.StatusCode, seconds: float):
        if action == "options":
            return
        metrics = self._data_plane.metrics
        metrics.request_count.increment(model_name=name, status=code.name)
        if code is grpc.StatusCode.OK and action in ("predict", "classify", "regress"):
            metrics.request_latency.observe(
                1e6 * seconds, model_name=name, API=action, entrypoint="REST"
            )

    def _render_metrics(self, target: str, path: str) -> Response:
        content, status = self._data_plane.metrics.render(), 200
        if target != path:
            content, status = f"Unexpected path: {target}. Should be {path}", 400
        return Response(content, status, {"content-type": "text/plain"})


def _target(scope: Scope) -> str:
    """Returns path and query in their original, escaped form."""
    query = scope["query_string"]
    target = scope["raw_path"] + b"?" * bool(query) + query
    return target.decode(errors="replace")


def _content_length(request: requests.Request) -> int:
    return int(request.headers.get("content-length") or 0)


def _build_response(content: bytes, status: int, headers: dict[str, str]) -> Response:
    headers = {**headers, "content-length": str(len(content))}
    if len(content) <= _PIECE:
        return Response(content, status, headers, _JSON)
    return StreamingResponse(_pieces(content), status, headers, _JSON)


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yields a large response in pieces: each one waits until the client reads."""
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]
