"""HTTP server of the REST API: waitress with limits of work, connections and time.

Waitress logs to this module's logger. Its own responses, as to invalid HTTP, are
{"error": ...} too.
"""

import logging
import socket
import threading
import time
from typing import Any

import grpc
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask

from mmkeras.errors import UserError
from serving.server.engine.admission import over_limit
from serving.server.errors import ServingError
from serving.server.rest.app import ARRIVED, REFUSED, Application
from serving.server.rest.responses import format_error

_log = logging.getLogger(__name__)
_queue_log = logging.getLogger(f"{__name__}.queue")
_CLOSING = "The server is shutting down."
_LAST_PORT = 65535
_POLL_S = 0.02
_TICK_S = 1.0


class RestServer:
    """HTTP server of a WSGI application.

    Attributes:
        port: Bound port.
        dispatcher: Worker threads, with the number of requests `in_flight`.
    """

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        threads: int,
        *,
        max_in_flight: int | None = None,
        max_body_bytes: int = 256 * 2**20,
        max_connections: int = 1000,
        receive_s: float = 120.0,
    ):
        """Binds the port; `start` listens on it.

        Args:
            app: WSGI application.
            host: Address to bind.
            port: Port; 0: any free port.
            threads: Requests that run at once.
            max_in_flight: Running and queued requests, beyond which the status is 429;
                by default 16 per thread.
            max_body_bytes: Body limit of the application. Up to 1 MiB more is read for
                a response of 413; above that the connection is closed.
            max_connections: Open connections; more connections wait.
            receive_s: Maximum time to send a request or to read the response, and
                maximum idle time.

        Raises:
            UserError: The port cannot be opened.
        """
        sock = _bind_socket(host, port)
        self.port: int = sock.getsockname()[1]
        self.dispatcher = _Dispatcher(threads, max_in_flight or 16 * threads)
        settings = _build_settings(sock, max_connections, max_body_bytes, receive_s)
        self._map: dict[int, Any] = {}
        self._server = _Server(app, self._map, sock, self.dispatcher, settings)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        """Starts the threads."""
        self._server.accept_connections()
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Rejects new requests, finishes the running ones and closes the server.

        Args:
            drain_s: Maximum time for running requests; later ones get no response.
        """
        end_s = time.monotonic() + drain_s
        self.dispatcher.closing = True
        if self._stopped.is_set():
            return
        if self._thread.is_alive():
            self._server.trigger.pull_trigger(self._close_listener)
            while time.monotonic() < end_s and not self.is_idle():
                time.sleep(_POLL_S)
            self._stopped.set()
            self._server.pull_trigger()
            self._thread.join()
        self._stopped.set()
        self._close_listener()
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()
        self.dispatcher.close()
        self._server.close_trigger()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                wasyncore.poll2(_TICK_S, self._map)
            except Exception:  # one client must not end the loop of the others
                _log.exception("The loop over the connections has failed")
                time.sleep(_POLL_S)

    def _close_listener(self) -> None:
        if self._server in self._map.values():
            wasyncore.dispatcher.close(self._server)

    def is_idle(self) -> bool:
        """Whether no request is running and no response is being sent."""
        channels = list(self._server.active_channels.values())
        busy = any(
            channel.requests or channel.total_outbufs_len for channel in channels
        )
        return not (busy or self.dispatcher.in_flight)


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


def _build_settings(sock, connections: int, body_bytes: int, receive_s: float):
    return Adjustments(
        sockets=[sock],
        ident="",
        connection_limit=connections,
        max_request_body_size=body_bytes + 2**20,
        inbuf_overflow=2**16,  # bytes of a request in memory; the rest is in a file
        channel_timeout=max(1, int(receive_s)),
        cleanup_interval=max(1, min(10, int(receive_s) // 4)),
        log_socket_errors=False,
        clear_untrusted_proxy_headers=False,
        # No thread waits for a slow client: its unread response is kept in memory up
        # to 1 MiB, and in a file above that.
        outbuf_high_watermark=2**62,
    )


class _Dispatcher(ThreadedTaskDispatcher):
    """Worker threads, and one thread that rejects requests above the limit."""

    logger = _log
    queue_logger = _queue_log

    def __init__(self, threads: int, max_in_flight: int):
        super().__init__()
        self.closing, self.in_flight, self._max_in_flight = False, 0, max_in_flight
        self._count_lock = threading.Lock()
        self._refuser = ThreadedTaskDispatcher()
        self._refuser.logger, self._refuser.queue_logger = _log, _queue_log
        self._refuser.set_thread_count(1)
        self.set_thread_count(threads)
        _queue_log.disabled = True  # it has a line per waiting request

    def add_task(self, task: "_Channel") -> None:
        """Queues the first request of a channel, or rejects it."""
        request = task.requests[0]
        request.arrived_s = time.monotonic()
        with self._count_lock:
            error = None
            if self.in_flight >= self._max_in_flight:
                error = over_limit("requests", self.in_flight, self._max_in_flight, 1)
            if self.closing:
                error = ServingError(grpc.StatusCode.UNAVAILABLE, _CLOSING)
            request.rejection, request.counted = error, error is None
            self.in_flight += request.counted
        if request.counted:
            super().add_task(task)
        else:
            self._refuser.add_task(task)

    def mark_done(self, request: Any) -> None:
        """Counts a request as done; a second call has no effect."""
        with self._count_lock:
            self.in_flight -= request.counted
            request.counted = False

    def close(self) -> None:
        """Ends the threads; busy ones end with the process."""
        self.shutdown(timeout=0.5)
        self._refuser.shutdown(timeout=0.5)


class _Task(WSGITask):
    logger = _log

    def get_environment(self):
        request = self.request
        entries = {REFUSED: request.rejection, ARRIVED: request.arrived_s}
        return {**super().get_environment(), **entries}

    def write(self, data):
        # A client that has read the response may send the next request at once.
        self.channel.server.task_dispatcher.mark_done(self.request)
        super().write(data)


class _ErrorTask(ErrorTask):
    logger = _log

    def execute(self):
        error = self.request.error
        body = format_error(str(error.body)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    """Connection that records when the receipt of a request started."""

    logger = _log
    task_class, error_task_class = _Task, _ErrorTask
    receiving_since_s: float | None = None

    def received(self, data):
        if self.request is None:
            self.receiving_since_s = time.time()
        more = super().received(data)
        if self.request is None:
            self.receiving_since_s = None
        return more

    def service(self):
        request = self.requests[0]
        try:
            super().service()
        finally:
            self.server.task_dispatcher.mark_done(request)


class _Server(TcpWSGIServer):
    logger = _log
    channel_class = _Channel

    def __init__(self, app, channels, sock, dispatcher, settings):
        self._trigger_lock, self._closed = threading.Lock(), False
        super().__init__(
            *(app, channels, False, sock, dispatcher, settings),
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            bind_socket=False,
        )

    def pull_trigger(self):
        """Wakes the loop; a late thread may call it after the loop has ended."""
        with self._trigger_lock:
            if not self._closed:
                super().pull_trigger()

    def close_trigger(self):
        """Closes the pipe that wakes the loop."""
        with self._trigger_lock:
            self._closed = True
            self.trigger.close()

    def maintenance(self, now):
        """Closes idle connections, and those that send too slowly."""
        super().maintenance(now)
        cutoff = now - self.adj.channel_timeout
        for channel in self.active_channels.values():
            if (channel.receiving_since_s or now) < cutoff:
                channel.will_close = True
