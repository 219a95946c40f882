"""TCP servers of tests: a proxy, one handler per connection; and free ports."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

LOCAL = "127.0.0.1"


def free_port() -> int:
    """Returns a port where no server listens."""
    with socket.socket() as free:
        free.bind((LOCAL, 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def listen(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Calls `handle` with each connection, then closes it; yields the port."""

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            handle(connection)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server((LOCAL, 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def respond(content: bytes) -> Callable[[socket.socket], None]:
    """Returns a handler that reads once and sends `content`."""

    def handle(connection):
        connection.recv(65536)
        connection.sendall(content)

    return handle


@contextlib.contextmanager
def proxy(
    port: int,
    delay_s: float = 0.0,
    dead: threading.Event | None = None,
    connections: list | None = None,
) -> Iterator[int]:
    """Forwards bytes to a port, each with a delay; yields its own port.

    Once `dead` is set, older connections stay open and forward nothing. Each new
    connection is added to `connections`.
    """
    dead = dead or threading.Event()

    def forward(source, sink):
        is_old = not dead.is_set()
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                time.sleep(delay_s)
                if not (is_old and dead.is_set()):
                    sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    def handle(client):
        if connections is not None:
            connections.append(client)
        with socket.create_connection((LOCAL, port)) as server:
            back = threading.Thread(target=forward, args=(server, client), daemon=True)
            back.start()
            forward(client, server)
            back.join(20)

    with listen(handle) as proxy_port:
        yield proxy_port
