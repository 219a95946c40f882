import socket
import threading

import pytest

from mmkeras.errors import UserError
from mmkeras.training.cluster import Cluster
from mmkeras.training.rendezvous import wait_for_workers


@pytest.fixture
def addresses():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}", "b:2", "c:3"


class Worker:
    """One that meets the others in a thread."""

    def __init__(self, addresses, place, seconds=20.0):
        self.error = None
        self._cluster = Cluster(addresses=addresses, place=place)
        self._thread = threading.Thread(target=self._meet, args=(seconds,))
        self._thread.start()

    def _meet(self, seconds):
        try:
            wait_for_workers(self._cluster, seconds)
        except UserError as error:
            self.error = str(error)

    def waits(self):
        self._thread.join(0.5)
        return self._thread.is_alive()

    def ends(self):
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.error


def say(addresses, words):
    host, port = addresses[0].split(":")
    line = socket.create_connection((host, int(port)))
    line.sendall(words)
    return line


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_go_on_when_the_last_one_has_come(addresses, order):
    first, second = (Worker(addresses, place) for place in order[:2])
    assert first.waits() and second.waits()
    third = Worker(addresses, order[2])
    assert [worker.ends() for worker in (first, second, third)] == [None] * 3


def test_who_has_not_come_in_time_is_named(addresses):
    chief, other = Worker(addresses, 0, seconds=1), Worker(addresses, 1, seconds=2)
    assert chief.ends().startswith(
        "Not all workers of TF_CONFIG have come; missing: c:3. Start a process for each"
    )
    assert f"missing: {addresses[0]} (the chief) or another one." in other.ends()


def test_one_that_has_left_again_is_waited_for(addresses):
    chief = Worker(addresses, 0)
    assert chief.waits()
    say(addresses, b"mmkeras: 1 of 3").close()
    other = Worker(addresses, 2)
    assert chief.waits() and other.waits()
    again = Worker(addresses, 1)
    assert [worker.ends() for worker in (chief, other, again)] == [None] * 3


def test_strangers_and_workers_of_another_cluster_do_not_count(addresses):
    chief = Worker(addresses[:2], 0, seconds=3)
    assert chief.waits()
    with say(addresses, b"GET / HTTP/1.1\r\n\r\n"), say(addresses, b"mmkeras: 1 of 3"):
        assert "missing: b:2" in chief.ends()


def test_another_program_at_the_chiefs_port_is_no_chief(addresses):
    host, port = addresses[0].split(":")
    with socket.create_server((host, int(port))) as server:
        worker = Worker(addresses, 1, seconds=2)
        line, _ = server.accept()
        with line:
            line.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        assert "(the chief)" in worker.ends()


def test_a_chiefs_port_that_is_taken_is_said(addresses):
    with socket.create_server(("", int(addresses[0].split(":")[1]))):
        message = Worker(addresses, 0).ends()
    assert message.startswith("The chief cannot use its port ")
    assert "Address already in use" in message
