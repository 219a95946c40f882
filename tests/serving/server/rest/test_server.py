import http.client
import json
import logging
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from mmkeras.errors import UserError
from serving.server.engine.admission import WeightedSemaphore
from serving.server.errors import ServingError
from serving.server.rest.app import build_app
from serving.server.rest.server import RestServer
from tests.serving.server.tiny_data_plane import NAME, SmallCore

PREDICT = f"/v1/models/{NAME}:predict"
BODY = b'{"instances": [1, 2, 5]}'
ANSWER = {"predictions": [2.5, 3.0, 4.5]}
PATIENCE_S = 30


@contextmanager
def serving(max_body_bytes=2**20, timeout_s=None, **settings):
    """Yields a core and the door to it, open on a free port."""
    core = SmallCore()
    app = build_app(core, timeout_s=timeout_s, max_body_bytes=max_body_bytes)
    settings = {"threads": 2, "max_body_bytes": max_body_bytes, **settings}
    door = RestServer(app, "127.0.0.1", 0, **settings)
    door.start()
    try:
        yield core, door
    finally:
        core.gate.set()
        door.stop(5)


@contextmanager
def connected(door):
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection, method="POST", path=PREDICT, body=BODY, **headers):
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def wait_until(true):
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


class Asking(threading.Thread):
    """A request in a thread of its own.

    Attributes:
        answer: Status and JSON, when it has come; "disconnected" if it never will.
    """

    def __init__(self, door):
        super().__init__(daemon=True)
        self.door, self.answer = door, None
        self.start()

    def run(self):
        with connected(self.door) as connection:
            try:
                self.answer = ask(connection)
            except http.client.RemoteDisconnected:
                self.answer = "disconnected"

    def result(self):
        self.join(PATIENCE_S)
        return self.answer


def raw(door, *parts):
    """Returns all that comes back for bytes on the port."""
    address = ("127.0.0.1", door.port)
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        for part in parts:
            connection.sendall(part)
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except ConnectionResetError:  # it has not read all, and says so at the end
            pass
        return said


def test_a_connection_serves_many_requests_and_says_no_name():
    with serving() as (_, door), connected(door) as connection:
        for _ in range(3):
            assert ask(connection) == (200, ANSWER)
        connection.request("GET", f"/v1/models/{NAME}")
        headers = connection.getresponse().headers
    assert headers["Content-Type"] == "application/json"
    assert "Server" not in headers


def test_a_head_request_leaves_the_connection_usable():
    with serving() as (_, door), connected(door) as connection:
        connection.request("HEAD", PREDICT)
        response = connection.getresponse()
        assert (response.status, response.read()) == (400, b"")
        assert ask(connection) == (200, ANSWER)


def test_a_body_in_chunks_is_one_body():
    with serving() as (_, door), connected(door) as connection:
        connection.request("POST", PREDICT, iter([BODY[:7], BODY[7:]]))
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (200, ANSWER)


def test_what_is_too_much_is_refused_and_what_was_taken_is_answered():
    with serving(threads=1, max_in_flight=3) as (core, door):
        core.gate.clear()
        taken = [Asking(door) for _ in range(3)]
        wait_until(lambda: door._dispatcher.in_flight == 3)
        with connected(door) as connection:
            room = WeightedSemaphore(3, "requests")  # as gRPC has it
            with room.taken_now(3), pytest.raises(ServingError) as caught:
                with room.taken_now(1):
                    raise AssertionError
            told = (429, {"error": caught.value.message})
            assert [ask(connection), ask(connection)] == [told, told]
            core.gate.set()
            assert [one.result() for one in taken] == [(200, ANSWER)] * 3
            assert ask(connection) == (200, ANSWER)
        page = core.metrics.render()
    assert f'model_name="{NAME}",status="RESOURCE_EXHAUSTED"}} 2\n' in page


def test_time_in_the_queue_is_time_of_the_request():
    with serving(threads=1, timeout_s=1.0) as (core, door):
        core.gate.clear()
        first = Asking(door)
        wait_until(lambda: core.requests)
        second = Asking(door)
        wait_until(lambda: door._dispatcher.in_flight == 2)
        time.sleep(1.1)
        core.gate.set()
        assert first.result() == (200, ANSWER)
        assert second.result()[0] == 504
        assert len(core.requests) == 2  # signatures, and what the first asked for


def test_a_client_that_asks_again_at_once_is_not_refused_for_its_last_request():
    with (
        serving(threads=1, max_in_flight=1) as (_, door),
        connected(door) as connection,
    ):
        assert [ask(connection) for _ in range(200)] == [(200, ANSWER)] * 200


def test_what_is_in_work_is_answered_while_the_door_closes():
    with serving() as (core, door), connected(door) as idle:
        assert ask(idle)[0] == 200
        wait_until(door._is_idle)
        core.gate.clear()
        taken = Asking(door)
        wait_until(lambda: door._dispatcher.in_flight)
        stopping = threading.Thread(target=door.stop, args=(PATIENCE_S,))
        stopping.start()
        wait_until(lambda: door._dispatcher.closing)
        assert ask(idle) == (503, {"error": "The server is shutting down."})
        core.gate.set()
        assert taken.result() == (200, ANSWER)
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE_S)


def test_what_takes_longer_than_the_drain_is_given_up():
    with serving() as (core, door):
        core.gate.clear()
        taken = Asking(door)
        wait_until(lambda: door._dispatcher.in_flight)
        door.stop(0.1)
        assert taken.result() == "disconnected"


def test_a_door_that_was_never_opened_can_be_closed():
    RestServer(build_app(SmallCore()), "127.0.0.1", 0, 1).stop(1)


def test_a_large_answer_is_taken_whole_by_a_slow_client():
    with serving(max_body_bytes=2**24) as (_, door), connected(door) as connection:
        body = json.dumps({"instances": [[0.1] * 1000] * 300}).encode()
        connection.request("POST", PREDICT, body)
        time.sleep(0.2)
        answer = json.loads(connection.getresponse().read())
    assert [len(row) for row in answer["predictions"]] == [1000] * 300


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([b"\x16\x03\x01\x02\x00\r\n\r\n"], b"400 Bad Request"),
        ([b"GET / HTTP/1.1\r\nA: " + b"x" * 300_000 + b"\r\n\r\n"], b"431 "),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: zip\r\n\r\n"], b"501 "),
        ([b"POST / HTTP/1.1\r\nContent-Length: 2500000\r\n\r\n"], b"413 "),
        (
            [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"?\r\n\r\n"],
            b"400 Bad Request",
        ),
    ],
)
def test_what_is_no_request_is_an_error_in_json(parts, status):
    with serving() as (_, door), connected(door) as connection:
        head, _, body = raw(door, *parts).partition(b"\r\n\r\n")
        assert head.split(b" ", 1)[1].startswith(status)
        assert b"Content-Type: application/json" in head
        assert list(json.loads(body)) == ["error"]
        assert ask(connection) == (200, ANSWER)


def test_a_body_somewhat_too_large_is_read_and_answered():
    with serving(max_body_bytes=1000) as (_, door), connected(door) as connection:
        status, answer = ask(connection, body=BODY.ljust(500_000))
        assert status == 413
        assert "more than 1000 bytes" in answer["error"]
        assert ask(connection) == (200, ANSWER)


def test_a_client_that_sends_too_slowly_is_let_go():
    with serving(receive_s=1.0) as (_, door), connected(door) as connection:
        assert raw(door, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx") == b""
        assert raw(door) == b""
        address = ("127.0.0.1", door.port)
        with socket.create_connection(address, timeout=PATIENCE_S) as dripping:
            dripping.settimeout(0.1)
            ended = False
            for _ in range(PATIENCE_S * 10):
                try:
                    dripping.sendall(b"G")
                    ended = dripping.recv(1) == b""
                except TimeoutError:
                    continue
                except OSError:
                    ended = True
                if ended:
                    break
            assert ended
        assert ask(connection) == (200, ANSWER)


def test_clients_that_go_away_do_no_harm():
    with serving() as (core, door):
        core.gate.clear()
        for _ in range(5):
            address = ("127.0.0.1", door.port)
            with socket.create_connection(address, timeout=PATIENCE_S) as connection:
                head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n"
                connection.sendall(head.encode() + BODY)
        wait_until(lambda: door._dispatcher.in_flight == 5)
        core.gate.set()
        wait_until(lambda: door._dispatcher.in_flight == 0)
        with connected(door) as connection:
            assert ask(connection) == (200, ANSWER)


def test_more_connections_than_allowed_wait_for_a_place():
    with serving(max_connections=5) as (_, door):
        address = ("127.0.0.1", door.port)
        idle = [socket.create_connection(address, PATIENCE_S) for _ in range(10)]
        for connection in idle:
            connection.close()
        with connected(door) as connection:
            assert ask(connection) == (200, ANSWER)


def test_waitress_says_nothing_of_its_own(capfd, caplog):
    with caplog.at_level(logging.INFO), serving(threads=1) as (core, door):
        core.gate.clear()
        taken = [Asking(door) for _ in range(4)]
        wait_until(lambda: door._dispatcher.in_flight == 4)
        core.gate.set()
        assert all(one.result() == (200, ANSWER) for one in taken)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.name.startswith("waitress")]


def test_a_port_that_is_taken_is_a_mistake_of_the_user():
    with serving() as (_, door):
        with pytest.raises(UserError, match=f"port {door.port} of '127.0.0.1'"):
            RestServer(build_app(SmallCore()), "127.0.0.1", door.port, 1)
    with pytest.raises(UserError, match="must be 0 to 65535, received 70000"):
        RestServer(build_app(SmallCore()), "127.0.0.1", 70_000, 1)
    with pytest.raises(UserError, match="of 'no.such.host.invalid' cannot be opened"):
        RestServer(build_app(SmallCore()), "no.such.host.invalid", 0, 1)
