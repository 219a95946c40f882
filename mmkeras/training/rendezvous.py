"""The workers of a cluster wait for each other, before TensorFlow starts.

TensorFlow 2.16 waits up to an hour for a worker that does not come, deaf to Ctrl-C.
"""

import socket
import time
from contextlib import ExitStack

from mmkeras.errors import UserError
from mmkeras.training.cluster import Cluster

_ALL_HERE = b"mmkeras: all here\n"
_GREETING = "mmkeras: {place} of {workers}"
_LONGEST = 100  # bytes of a greeting
_STEP_S = 0.2


def wait_for_workers(cluster: Cluster, seconds: float) -> None:
    """Returns once a process of each worker has come, on all of them together.

    Raises:
        UserError: Some have not come in time, or the chief's port is taken.
    """
    end = time.monotonic() + seconds
    if not cluster.is_chief:
        _report(cluster, end)
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
        _gather(cluster, server, connections, end)


def _gather(cluster, server, connections, end):
    """The chief's part: keeps the line of each worker open until all have one."""
    server.settimeout(_STEP_S)
    waited_for = {
        _GREETING.format(place=place, workers=cluster.workers): place
        for place in range(1, cluster.workers)
    }
    there = {}
    while len(there) < len(waited_for):
        if time.monotonic() > end:
            missing = sorted(set(waited_for.values()) - set(there))
            raise _not_come(" and ".join(cluster.addresses[p] for p in missing))
        try:
            connection = connections.enter_context(server.accept()[0])
            connection.settimeout(1)
            place = waited_for.get(connection.recv(_LONGEST).decode(errors="replace"))
        except OSError:  # nobody now, or one who said nothing
            place = None
        if place is not None:
            connection.setblocking(False)
            there[place] = connection
        there = {place: line for place, line in there.items() if _is_open(line)}
    for connection in there.values():
        connection.sendall(_ALL_HERE)


def _is_open(connection) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _report(cluster, end):
    """Another worker's part: greets the chief and waits for its answer."""
    host, _, port = cluster.addresses[0].rpartition(":")
    greeting = _GREETING.format(place=cluster.place, workers=cluster.workers)
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(greeting.encode())
                connection.settimeout(left)
                if connection.recv(len(_ALL_HERE)) == _ALL_HERE:
                    return
        except OSError:  # the chief is not there yet, or has ended
            pass
        time.sleep(_STEP_S)
    raise _not_come(f"{cluster.addresses[0]} (the chief) or another one")


def _not_come(who: str) -> UserError:
    return UserError(
        f"Not all workers of TF_CONFIG have come; missing: {who}. "
        "Start a process for each, where all addresses can be reached."
    )
