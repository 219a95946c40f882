"""HTTP server of the REST API: uvicorn with limits of connections, sizes and time.

Its own responses, as to invalid HTTP, are {"error": ...} too.
"""

import logging
import socket
import threading
import time
from contextlib import suppress
from http import HTTPStatus

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mmkeras.errors import UserError
from serving.server.rest.app import RestApp
from serving.server.rest.json_document import format_json

_LAST_PORT = 65535
_POLL_S = 0.01
_STOP_S = 1.0  # for uvicorn to end, after the drain time
_BACKLOG = 2048  # connections that the kernel holds
_MAX_HEADERS = 100
# Bytes of a request besides its body: request line, headers, sizes of chunks, trailers.
_MAX_HEAD_BYTES = 2**16
_CHUNK_OVERHEAD = 8  # such bytes per byte of the body, for chunks of one byte
_MAX_PIPELINED = 16  # requests of a connection that wait for the previous response


class RestServer:
    """HTTP server of the application; `port` is the bound port."""

    def __init__(
        self,
        app: RestApp,
        host: str,
        port: int,
        *,
        max_connections: int = 1000,
        receive_s: float = 120.0,
        cors: bool = False,
    ):
        """Binds the port, which is free if 0; `start` listens on it.

        Args:
            app: Application.
            host: Address.
            port: Port.
            max_connections: Open connections; for a new one above that, the connection
                that has sent no complete request for longest is closed.
            receive_s: Maximum time to send a request or to read the response, and
                maximum idle time.
            cors: Whether pages of other sites may use the API.

        Raises:
            UserError: The port cannot be opened.
        """
        self._app, self._receive_s = app, receive_s
        self._max_connections = max_connections
        self._socket = _bind_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        asgi = CORSMiddleware(app, ["*"], ["GET", "POST"], ["*"]) if cors else app
        config = uvicorn.Config(
            asgi,
            http=self._build_protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=receive_s,
            timeout_notify=1,
            callback_notify=self._close_slow,
        )
        for name in ("uvicorn.error", "python_multipart"):  # a line per bad request
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="rest", daemon=True
        )

    def start(self) -> None:
        """Starts to listen."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(_POLL_S)
        if not self._server.started:
            raise RuntimeError("The REST server has not started.")

    def stop(self, drain_s: float) -> bool:
        """Closes the port and finishes the running requests, for at most `drain_s`.

        Returns whether all requests got their response.
        """
        if self._thread.is_alive():
            self._server.config.timeout_graceful_shutdown = drain_s
            self._server.should_exit = True
            self._thread.join(drain_s)
            # uvicorn cancels the requests soon, and would wait for these clients.
            for protocol in list(self._server.server_state.connections):
                if self._thread.is_alive() and protocol.flow.write_paused:
                    self._app.lost += 1
                    with suppress(RuntimeError):  # it has just ended
                        protocol.loop.call_soon_threadsafe(protocol.transport.abort)
            self._thread.join(_STOP_S)
        self._socket.close()
        self._app.close()
        return not (self._app.running or self._app.sending or self._app.lost)

    def _build_protocol(self, **settings) -> "_Protocol":
        protocol = _Protocol(**settings)
        protocol.make_room = self._make_room
        return protocol

    def _make_room(self) -> None:
        """Closes the connection that has waited longest, if there are too many."""
        connections = self._server.server_state.connections
        if len(connections) > self._max_connections:
            waiting = [c for c in connections if not c.is_running]
            for protocol in sorted(waiting, key=lambda c: c.since_s)[:1]:
                protocol.transport.abort()

    async def _close_slow(self) -> None:
        """Closes the connections that send, read or idle for too long."""
        now_s = time.monotonic()
        for protocol in list(self._server.server_state.connections):
            if protocol.is_running:
                protocol.since_s = now_s
            elif now_s - protocol.since_s > self._receive_s:
                protocol.transport.abort()


class _Protocol(HttpToolsProtocol):
    """Connection with limits of its headers and pipelined requests.

    Attributes:
        since_s: `time.monotonic()` at which the connection, or the current request,
            began, or a request was last seen running.
    """

    make_room = staticmethod(lambda: None)

    def connection_made(self, transport):
        self.since_s, self._head_bytes, self._error = time.monotonic(), 0, None
        self._is_full = False
        super().connection_made(transport)
        self.make_room()

    @property
    def is_running(self) -> bool:
        """Whether a complete request waits for its response."""
        cycle = self.cycle
        is_answered = self.flow.write_paused or not cycle or cycle.response_started
        return not is_answered and not cycle.more_body

    def data_received(self, data):
        if self._is_full:
            return
        self._head_bytes += len(data)  # until a callback has taken the body off
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._error = 431, "The header of the request is too large."
            self.send_400_response("")

    def on_message_begin(self):
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._is_full, self.cycle.keep_alive = True, False
            raise ValueError
        super().on_message_begin()
        self.since_s, self._head_bytes, self._header_bytes = time.monotonic(), 0, 0

    def on_header(self, name, value):
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if len(self.headers) > _MAX_HEADERS or self._header_bytes > _MAX_HEAD_BYTES:
            self._error = 431, "The request has too many or too large headers."
            raise ValueError

    def on_headers_complete(self):
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body):
        body_bytes = (1 + _CHUNK_OVERHEAD) * len(body)
        self._head_bytes = max(0, self._head_bytes - body_bytes)
        super().on_body(body)

    def send_400_response(self, msg):
        if self._is_full:  # the last response closes the connection
            return
        status, message = self._error or (400, msg)
        content = format_json({"error": message})
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(content)}",
            "connection: close",
        ]
        head = "\r\n".join([*lines, "", ""])
        self.transport.write(head.encode() + content)
        self.transport.close()


def _bind_socket(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LAST_PORT:  # getaddrinfo would wrap it around
        raise UserError(
            f"The REST port must be 0 to {_LAST_PORT}, received {port}; 0 chooses a "
            "free port."
        )
    try:
        infos = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = infos[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise UserError(
            f"The REST port {port} of '{host}' cannot be opened: {error.strerror}. "
            "Choose another --rest-port, or 0 for a free port."
        ) from None
    return sock
