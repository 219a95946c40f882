import http.client
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from mmkeras.errors import UserError
from serving.server.rest.app import build_app
from serving.server.rest.server import RestServer
from tests.serving.server.assertions import WAIT_S, wait_until
from tests.serving.server.tiny_data_plane import NAME, TinyDataPlane

PREDICT = f"/v1/models/{NAME}:predict"
BODY = b'{"instances": [1, 2, 5]}'
OK = (200, {"predictions": [2.5, 3.0, 4.5]})


@contextmanager
def serving(max_body_bytes=2**20, timeout_s=None, **settings):
    """Yields a fake data plane and its server on a free port."""
    data_plane = TinyDataPlane()
    app = build_app(data_plane, timeout_s=timeout_s, max_body_bytes=max_body_bytes)
    settings = {"threads": 2, "max_body_bytes": max_body_bytes, **settings}
    server = RestServer(app, "127.0.0.1", 0, **settings)
    server.start()
    try:
        yield data_plane, server
    finally:
        data_plane.gate.set()
        server.stop(5)


@contextmanager
def connected(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)
    try:
        yield connection
    finally:
        connection.close()


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def request(connection, method="POST", path=PREDICT, body=BODY):
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def request_anew(server):
    """Sends a request on a new connection; returns the response or "disconnected"."""
    with connected(server) as connection:
        try:
            return request(connection)
        except http.client.RemoteDisconnected:
            return "disconnected"


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@contextmanager
def blocked(data_plane, server, pool, count):
    """Yields the futures of requests that wait in the data plane or in the queue."""
    data_plane.gate.clear()
    try:
        futures = []
        for running in range(1, count + 1):
            futures.append(pool.submit(request_anew, server))
            wait_until(lambda n=running: server.dispatcher.in_flight == n)
        yield futures
    finally:
        data_plane.gate.set()


def results(futures):
    return [future.result(WAIT_S) for future in futures]


def send_raw(server, *parts):
    """Sends bytes; returns all bytes of the response."""
    with connect(server) as connection:
        for part in parts:
            connection.sendall(part)
        data = b""
        try:
            while part := connection.recv(65536):
                data += part
        except ConnectionResetError:  # the server has not read all bytes
            pass
        return data


def test_a_connection_serves_many_requests_without_a_server_name():
    with serving() as (_, server), connected(server) as connection:
        assert [request(connection) for _ in range(3)] == [OK] * 3
        connection.request("HEAD", PREDICT)
        response = connection.getresponse()
        assert (response.status, response.read()) == (400, b"")
        connection.request("GET", f"/v1/models/{NAME}")
        headers = connection.getresponse().headers
    assert headers["Content-Type"] == "application/json"
    assert "Server" not in headers


def test_a_chunked_body_is_one_body():
    with serving() as (_, server), connected(server) as connection:
        assert request(connection, body=iter([BODY[:7], BODY[7:]])) == OK


def test_requests_above_the_limit_are_rejected_and_the_others_served(pool):
    with serving(threads=1, max_in_flight=3) as (data_plane, server):
        with connected(server) as connection:
            with blocked(data_plane, server, pool, 3) as futures:
                for status, body in (request(connection), request(connection)):
                    assert status == 429
                    assert "Too many requests in flight: 3 of 3" in body["error"]
            assert results(futures) == [OK] * 3
            assert request(connection) == OK
        page = data_plane.metrics.render()
    assert f'model_name="{NAME}",status="RESOURCE_EXHAUSTED"}} 2\n' in page


def test_the_timeout_includes_the_time_in_the_queue(pool):
    with serving(threads=1, timeout_s=0.5) as (data_plane, server):
        with blocked(data_plane, server, pool, 2) as (first, second):
            wait_until(lambda: data_plane.requests)
            time.sleep(0.6)
        assert first.result(WAIT_S) == OK
        assert second.result(WAIT_S)[0] == 504
        assert len(data_plane.requests) == 2  # signatures and inputs of the first


def test_a_client_may_send_the_next_request_at_once():
    with (
        serving(threads=1, max_in_flight=1) as (_, server),
        connected(server) as connection,
    ):
        assert [request(connection) for _ in range(200)] == [OK] * 200


def test_running_requests_are_finished_while_the_server_stops(pool):
    with serving() as (data_plane, server), connected(server) as idle:
        assert request(idle)[0] == 200
        wait_until(server.is_idle)
        with blocked(data_plane, server, pool, 1) as futures:
            stopping = threading.Thread(target=server.stop, args=(WAIT_S,))
            stopping.start()
            wait_until(lambda: server.dispatcher.closing)
            assert request(idle) == (503, {"error": "The server is shutting down."})
        assert results(futures) == [OK]
        stopping.join(WAIT_S)
        assert not stopping.is_alive()
        with pytest.raises(OSError):
            connect(server)


def test_a_request_longer_than_the_drain_time_is_disconnected(pool):
    with serving() as (data_plane, server):
        with blocked(data_plane, server, pool, 1) as futures:
            server.stop(0.1)
            assert results(futures) == ["disconnected"]


def test_a_server_that_was_never_started_can_be_stopped():
    RestServer(build_app(TinyDataPlane()), "127.0.0.1", 0, 1).stop(1)


def test_a_slow_client_gets_all_of_a_large_response():
    with serving(max_body_bytes=2**24) as (_, server), connected(server) as connection:
        body = json.dumps({"instances": [[0.1] * 1000] * 300}).encode()
        connection.request("POST", PREDICT, body)
        time.sleep(0.2)
        response = json.loads(connection.getresponse().read())
    assert [len(row) for row in response["predictions"]] == [1000] * 300


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
def test_invalid_http_is_an_error_in_json(parts, status):
    with serving() as (_, server):
        head, _, body = send_raw(server, *parts).partition(b"\r\n\r\n")
        assert head.split(b" ", 1)[1].startswith(status)
        assert b"Content-Type: application/json" in head
        assert list(json.loads(body)) == ["error"]
        assert request_anew(server) == OK


def test_a_body_slightly_above_the_limit_gets_a_response():
    with serving(max_body_bytes=1000) as (_, server), connected(server) as connection:
        status, body = request(connection, body=BODY.ljust(500_000))
        assert status == 413 and "more than 1000 bytes" in body["error"]
        assert request(connection) == OK


def test_slow_senders_and_idle_clients_are_disconnected(pool):
    with serving(receive_s=1.0) as (_, server):
        idle = [
            pool.submit(send_raw, server, *parts)
            for parts in ([b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"], [])
        ]
        with connect(server) as connection:
            connection.settimeout(0.1)
            deadline_s = time.monotonic() + WAIT_S
            is_open = True
            while is_open:
                assert time.monotonic() < deadline_s
                try:
                    connection.sendall(b"G")
                    is_open = connection.recv(1) != b""
                except TimeoutError:
                    continue
                except OSError:
                    is_open = False
        assert results(idle) == [b"", b""]
        assert request_anew(server) == OK


def test_disconnected_clients_do_no_harm():
    with serving() as (data_plane, server):
        data_plane.gate.clear()
        head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n"
        for _ in range(5):
            with connect(server) as connection:
                connection.sendall(head.encode() + BODY)
        wait_until(lambda: server.dispatcher.in_flight == 5)
        data_plane.gate.set()
        wait_until(lambda: server.dispatcher.in_flight == 0)
        assert request_anew(server) == OK


def test_connections_above_the_limit_wait():
    with serving(max_connections=5) as (_, server):
        for connection in [connect(server) for _ in range(10)]:
            connection.close()
        assert request_anew(server) == OK


def test_waitress_logs_nothing(capfd, caplog, pool):
    with caplog.at_level(logging.INFO), serving(threads=1) as (data_plane, server):
        with blocked(data_plane, server, pool, 4) as futures:
            pass
        assert results(futures) == [OK] * 4
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.name.startswith("waitress")]


def test_a_port_or_host_that_cannot_be_bound_is_a_users_mistake():
    def bind(host, port):
        RestServer(build_app(TinyDataPlane()), host, port, 1)

    with serving() as (_, server):
        with pytest.raises(UserError, match=f"port {server.port} of '127.0.0.1'"):
            bind("127.0.0.1", server.port)
    with pytest.raises(UserError, match="must be 0 to 65535, received 70000"):
        bind("127.0.0.1", 70_000)
    with pytest.raises(UserError, match="of 'no.such.host.invalid' cannot be opened"):
        bind("no.such.host.invalid", 0)
