import socket
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone

import pytest

from mmkeras.errors import UserError
from mmkeras.training.cluster import Cluster
from mmkeras.training.rendezvous import wait_for_workers


@pytest.fixture
def addresses():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}", "b:2", "c:3"


@pytest.fixture
def start(addresses):
    """Starts a worker in a thread; its result is an error message or None."""

    def wait(index, timeout_s, workers):
        try:
            cluster = Cluster(addresses=addresses[:workers], index=index)
            return wait_for_workers(cluster, timeout_s)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        yield lambda index, timeout_s=20.0, workers=3: pool.submit(
            wait, index, timeout_s, workers
        )


def is_waiting(worker):
    try:
        worker.result(0.5)
    except NotDone:
        return True
    return False


def send(addresses, content):
    host, port = addresses[0].split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(content)
    return connection


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_go_on_when_the_last_one_has_connected(start, order):
    first, second = (start(index) for index in order[:2])
    assert is_waiting(first) and is_waiting(second)
    third = start(order[2])
    assert [worker.result(20) for worker in (first, second, third)] == [None] * 3


def test_missing_workers_are_named_after_the_timeout(start, addresses):
    chief, other = start(0, timeout_s=1), start(1, timeout_s=2)
    message = chief.result(20)
    assert "missing: c:3. Start a process for each" in message
    assert f"missing: {addresses[0]} (the chief) or another one" in other.result(20)


def test_a_worker_that_has_disconnected_is_missing_again(start, addresses):
    chief = start(0)
    assert is_waiting(chief)
    send(addresses, b"mmkeras: 1 of 3").close()
    other = start(2)
    assert is_waiting(chief) and is_waiting(other)
    again = start(1)
    assert [worker.result(20) for worker in (chief, other, again)] == [None] * 3


def test_other_programs_and_workers_of_another_cluster_do_not_count(start, addresses):
    chief = start(0, timeout_s=3, workers=2)
    assert is_waiting(chief)
    with (
        send(addresses, b"GET / HTTP/1.1\r\n\r\n"),
        send(addresses, b"mmkeras: 1 of 3"),
    ):
        assert "missing: b:2" in chief.result(20)


def test_another_program_at_the_chiefs_port_is_not_the_chief(start, addresses):
    host, port = addresses[0].split(":")
    with socket.create_server((host, int(port))) as server:
        worker = start(1, timeout_s=2)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        assert "(the chief)" in worker.result(20)


def test_a_port_of_the_chief_that_is_in_use_is_an_error(start, addresses):
    port = addresses[0].split(":")[1]
    with socket.create_server(("", int(port))):
        message = start(0).result(20)
    assert f"port {port}" in message and "Address already in use" in message
