"""The socket of the REST API: waitress, with bounds for work, clients and time.

All that waitress says goes to this module's logger; what it answers by itself, as to
bytes that are no HTTP, is {"error": ...} too.
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
from serving.server.rest.responses import error_answer

_log = logging.getLogger(__name__)
_unheard = logging.getLogger(f"{__name__}.queue")
_CLOSING = "The server is shutting down."
_LAST_PORT = 65535
_POLL_S = 0.02
_TICK_S = 1.0


class RestServer:
    """Serves a WSGI application over HTTP.

    Attributes:
        port: The port that is open, also where 0 was asked for.
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
            app: Application.
            host: Name or address of this machine that clients see.
            port: Port; 0: any that is free.
            threads: How many requests are worked on at once.
            max_in_flight: How many may be worked on or wait, before more are answered
                by 429; by default 16 for each thread.
            max_body_bytes: What the application takes. Of what is larger, 1 MiB more
                is read to answer by 413; beyond that the connection ends.
            max_connections: How many connections there may be; more wait.
            receive_s: How long a client may take to send a request, to take its
                answer, or to do nothing.

        Raises:
            UserError: The port cannot be opened.
        """
        sock = _bound(host, port)
        self.port: int = sock.getsockname()[1]
        self._dispatcher = _Dispatcher(threads, max_in_flight or 16 * threads)
        settings = _settings(sock, max_connections, max_body_bytes, receive_s)
        self._map: dict[int, Any] = {}
        self._server = _Server(app, self._map, sock, self._dispatcher, settings)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest", daemon=True)

    def start(self) -> None:
        """Begins to serve, in threads of its own."""
        self._server.accept_connections()
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Takes no more requests, answers those in work, and closes all, once.

        Args:
            drain_s: How long those in work may take; later ones lose their answer.
        """
        until_s = time.monotonic() + drain_s
        self._dispatcher.closing = True
        if self._over.is_set():
            return
        if self._thread.is_alive():
            self._server.trigger.pull_trigger(self._close_listener)
            while time.monotonic() < until_s and not self._is_idle():
                time.sleep(_POLL_S)
            self._over.set()
            self._server.pull_trigger()
            self._thread.join()
        self._over.set()
        self._close_listener()
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()
        self._dispatcher.close()
        self._server.close_trigger()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                wasyncore.poll2(_TICK_S, self._map)
            except Exception:  # the door stays open whatever one client did
                _log.exception("The loop over the connections has failed")
                time.sleep(_POLL_S)

    def _close_listener(self) -> None:
        if self._server in self._map.values():
            wasyncore.dispatcher.close(self._server)

    def _is_idle(self) -> bool:
        channels = list(self._server.active_channels.values())
        busy = any(
            channel.requests or channel.total_outbufs_len for channel in channels
        )
        return not (busy or self._dispatcher.in_flight)


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= _LAST_PORT:  # getaddrinfo would take the rest of a division
        raise UserError(
            f"The REST port must be 0 to {_LAST_PORT}, received {port}; 0 takes one "
            "that is free."
        )
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
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
            "Give another --rest-port, or 0 for one that is free."
        ) from None
    return sock


def _settings(sock, connections: int, body_bytes: int, receive_s: float):
    return Adjustments(
        sockets=[sock],
        ident="",
        connection_limit=connections,
        max_request_body_size=body_bytes + 2**20,
        inbuf_overflow=2**16,  # of each request in memory; more is in a file
        channel_timeout=max(1, int(receive_s)),
        cleanup_interval=max(1, min(10, int(receive_s) // 4)),
        log_socket_errors=False,
        clear_untrusted_proxy_headers=False,
        # No thread ever waits for a slow client: what it has not taken is kept in
        # memory up to 1 MiB, and in a file beyond that.
        outbuf_high_watermark=2**62,
    )


class _Dispatcher(ThreadedTaskDispatcher):
    """Threads that do the work, and one that refuses what is too much."""

    logger = _log
    queue_logger = _unheard

    def __init__(self, threads: int, max_in_flight: int):
        super().__init__()
        self.closing, self.in_flight, self._most = False, 0, max_in_flight
        self._counting = threading.Lock()
        self._refusing = ThreadedTaskDispatcher()
        self._refusing.logger, self._refusing.queue_logger = _log, _unheard
        self._refusing.set_thread_count(1)
        self.set_thread_count(threads)
        _unheard.disabled = True  # a line for each request that waits

    def add_task(self, task: "_Channel") -> None:
        """Takes the first request of a channel on, or refuses it."""
        request = task.requests[0]
        request.arrived_s = time.monotonic()
        with self._counting:
            error = None
            if self.in_flight >= self._most:
                error = over_limit("requests", self.in_flight, self._most, 1)
            if self.closing:
                error = ServingError(grpc.StatusCode.UNAVAILABLE, _CLOSING)
            request.refused, request.counted = error, error is None
            self.in_flight += request.counted
        if request.counted:
            super().add_task(task)
        else:
            self._refusing.add_task(task)

    def finish(self, request: Any) -> None:
        """Counts a request that was worked on as done, if it is not counted yet."""
        with self._counting:
            self.in_flight -= request.counted
            request.counted = False

    def close(self) -> None:
        """Ends the threads; those that still work end with the process."""
        self.shutdown(timeout=0.5)
        self._refusing.shutdown(timeout=0.5)


class _Task(WSGITask):
    logger = _log

    def get_environment(self):
        request = self.request
        ours = {REFUSED: request.refused, ARRIVED: request.arrived_s}
        return {**super().get_environment(), **ours}

    def write(self, data):
        # Who has read the answer may ask again, and is not to be refused for it.
        self.channel.server.task_dispatcher.finish(self.request)
        super().write(data)


class _ErrorTask(ErrorTask):
    logger = _log

    def execute(self):
        error = self.request.error
        body = error_answer(str(error.body)).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):
    """A connection, which knows since when it receives a request."""

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
            self.server.task_dispatcher.finish(request)


class _Server(TcpWSGIServer):
    logger = _log
    channel_class = _Channel

    def __init__(self, app, channels, sock, dispatcher, settings):
        self._pulling, self._closed = threading.Lock(), False
        super().__init__(
            *(app, channels, False, sock, dispatcher, settings),
            sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
            bind_socket=False,
        )

    def pull_trigger(self):
        """Wakes the loop; a thread may still ask for it when there is none any more."""
        with self._pulling:
            if not self._closed:
                super().pull_trigger()

    def close_trigger(self):
        """Gives back the pipe that wakes the loop."""
        with self._pulling:
            self._closed = True
            self.trigger.close()

    def maintenance(self, now):
        """Closes connections that do nothing, or that are too slow about it."""
        super().maintenance(now)
        cutoff = now - self.adj.channel_timeout
        for channel in self.active_channels.values():
            if (channel.receiving_since_s or now) < cutoff:
                channel.will_close = True
