"""A barrier at which the workers of a cluster wait before TensorFlow starts.

TensorFlow 2.16 waits up to an hour for a missing worker and ignores Ctrl-C meanwhile.
"""

import socket
import time
from contextlib import ExitStack

from mmkeras.errors import UserError
from mmkeras.training.cluster import Cluster

_ALL_CONNECTED = b"mmkeras: all here\n"
_GREETING = "mmkeras: {index} of {workers}"
_GREETING_BYTES = 100  # upper limit
_POLL_S = 0.2


def wait_for_workers(cluster: Cluster, timeout_s: float) -> None:
    """Waits until every worker has connected to the chief.

    Raises:
        UserError: Workers are missing after `timeout_s`, or the chief's port is taken.
    """
    end = time.monotonic() + timeout_s
    if not cluster.is_chief:
        _greet_chief(cluster, end)
        return
    port = int(cluster.addresses[0].rpartition(":")[2])
    try:
        server = socket.create_server(("", port), backlog=cluster.workers)
    except OSError as error:
        raise UserError(
            f"The chief cannot use its port {port} of TF_CONFIG ({error.strerror}). "
            "Give it another one, for all workers."
        ) from None
    with server, ExitStack() as connections:
        _accept_workers(cluster, server, connections, end)


def _accept_workers(cluster, server, connections, end):
    """Keeps the connection of each worker open until all are connected."""
    server.settimeout(_POLL_S)
    index_by_greeting = {
        _GREETING.format(index=index, workers=cluster.workers): index
        for index in range(1, cluster.workers)
    }
    connected = {}
    while len(connected) < len(index_by_greeting):
        if time.monotonic() > end:
            missing = sorted(set(index_by_greeting.values()) - set(connected))
            raise _missing_workers(" and ".join(cluster.addresses[i] for i in missing))
        try:
            connection = connections.enter_context(server.accept()[0])
            connection.settimeout(1)
            greeting = connection.recv(_GREETING_BYTES).decode(errors="replace")
            index = index_by_greeting.get(greeting)
        except OSError:  # no connection, or one without a greeting
            index = None
        if index is not None:
            connection.setblocking(False)
            connected[index] = connection
        connected = {i: c for i, c in connected.items() if _is_open(c)}
    for connection in connected.values():
        connection.sendall(_ALL_CONNECTED)


def _is_open(connection) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _greet_chief(cluster, end):
    """Connects to the chief and waits for its message that all are connected."""
    host, _, port = cluster.addresses[0].rpartition(":")
    greeting = _GREETING.format(index=cluster.index, workers=cluster.workers)
    while (left_s := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(greeting.encode())
                connection.settimeout(left_s)
                if connection.recv(len(_ALL_CONNECTED)) == _ALL_CONNECTED:
                    return
        except OSError:  # the chief has not started yet, or has ended
            pass
        time.sleep(_POLL_S)
    raise _missing_workers(f"{cluster.addresses[0]} (the chief) or another one")


def _missing_workers(names: str) -> UserError:
    return UserError(
        f"Not all workers of TF_CONFIG have connected; missing: {names}. "
        "Start a process for each, where all addresses can be reached."
    )
