import http.client
import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from mmkeras.errors import UserError
from serving.server.rest.app import build_app
from serving.server.rest.server import RestServer
from tests.serving.server.assertions import WAIT_S, wait_until
from tests.serving.server.recording_data_plane import RecordingDataPlane

PREDICT = "/v1/models/halves:predict"
BODY = b'{"instances": [1, 2, 5]}'
OK = (200, {"predictions": [2.5, 3.0, 4.5]})


@pytest.fixture
def recorder(data_plane):
    return RecordingDataPlane(data_plane)


@pytest.fixture
def serve(recorder):
    """Starts servers on free ports."""
    servers = []

    def serve(max_body_bytes=2**20, timeout_s=None, **settings):
        app = build_app(recorder, timeout_s=timeout_s, max_body_bytes=max_body_bytes)
        settings = {"threads": 2, "max_body_bytes": max_body_bytes, **settings}
        servers.append(RestServer(app, "127.0.0.1", 0, **settings))
        servers[-1].start()
        return servers[-1]

    yield serve
    recorder.gate.set()
    for server in servers:
        server.stop(5)


def connected(server):
    return closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S))


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)


def request(connection, body=BODY):
    connection.request("POST", PREDICT, body)
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


@pytest.fixture
def blocked(recorder, pool):
    """Context with futures of requests that wait in the data plane or the queue."""

    @contextmanager
    def blocked(server, count):
        recorder.gate.clear()
        try:
            futures = []
            for running in range(1, count + 1):
                futures.append(pool.submit(request_anew, server))
                wait_until(lambda n=running: server.dispatcher.in_flight == n)
            yield futures
        finally:
            recorder.gate.set()

    return blocked


def results(futures):
    return [future.result(WAIT_S) for future in futures]


def send_raw(server, data):
    """Sends bytes; returns all bytes of the response."""
    with connect(server) as connection:
        connection.sendall(data)
        response = b""
        try:
            while part := connection.recv(65536):
                response += part
        except ConnectionResetError:  # the server has not read all bytes
            pass
        return response


def test_a_connection_serves_many_requests_without_a_server_name(serve):
    with connected(serve()) as connection:
        assert [request(connection) for _ in range(3)] == [OK] * 3
        assert request(connection, iter([BODY[:7], BODY[7:]])) == OK  # chunked
        connection.request("HEAD", PREDICT)
        connection.getresponse().read()
        connection.request("GET", "/v1/models/halves")
        headers = connection.getresponse().headers
    assert headers["Content-Type"] == "application/json"
    assert "Server" not in headers


def test_requests_above_the_limit_are_rejected_and_the_others_served(
    serve, recorder, blocked
):
    server = serve(threads=1, max_in_flight=3)
    with connected(server) as connection:
        with blocked(server, 3) as futures:
            for status, body in (request(connection), request(connection)):
                assert status == 429
                assert "Too many requests in flight: 3 of 3" in body["error"]
        assert results(futures) == [OK] * 3
        assert request(connection) == OK
    page = recorder.metrics.render()
    assert 'model_name="halves",status="RESOURCE_EXHAUSTED"} 2\n' in page


def test_the_timeout_includes_the_time_in_the_queue(serve, recorder, blocked):
    server = serve(threads=1, timeout_s=0.5)
    with blocked(server, 2) as (first, second):
        wait_until(lambda: recorder.requests)
        time.sleep(0.6)
    assert second.result(WAIT_S)[0] == 504
    assert first.result(WAIT_S)[0] in (200, 504)
    assert len(recorder.requests) == 2  # signatures and inputs of the first


def test_a_client_may_send_the_next_request_at_once(serve):
    with connected(serve(threads=1, max_in_flight=1)) as connection:
        assert [request(connection) for _ in range(200)] == [OK] * 200


def test_running_requests_are_finished_while_the_server_stops(serve, pool, blocked):
    server = serve()
    with connected(server) as idle:
        assert request(idle)[0] == 200
        wait_until(server.is_idle)
        with blocked(server, 1) as futures:
            stopping = pool.submit(server.stop, WAIT_S)
            wait_until(lambda: server.dispatcher.closing)
            assert request(idle) == (503, {"error": "The server is shutting down."})
        assert results(futures) == [OK]
        stopping.result(WAIT_S)
        with pytest.raises(OSError):
            connect(server)


def test_a_request_longer_than_the_drain_time_is_disconnected(serve, blocked):
    server = serve()
    with blocked(server, 1) as futures:
        server.stop(0.1)
        assert results(futures) == ["disconnected"]


def test_a_server_that_was_never_started_can_be_stopped(recorder):
    RestServer(build_app(recorder), "127.0.0.1", 0, 1).stop(1)


def test_a_slow_client_gets_all_of_a_large_response(serve):
    with connected(serve(max_body_bytes=2**24)) as connection:
        body = {"signature_name": "echo", "instances": ["x" * 10_000] * 300}
        connection.request("POST", PREDICT, json.dumps(body))
        time.sleep(0.2)
        response = json.loads(connection.getresponse().read())
    assert [row["length"] for row in response["predictions"]] == [10_000] * 300


POST = b"POST / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 300_000 + b"\r\n\r\n", b"431 "),
        (POST + b"Transfer-Encoding: zip\r\n\r\n", b"501 "),
        (POST + b"Content-Length: 2500000\r\n\r\n", b"413 "),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n?\r\n\r\n", b"400 Bad Request"),
    ],
)
def test_invalid_http_is_an_error_in_json(serve, data, status):
    server = serve()
    head, _, body = send_raw(server, data).partition(b"\r\n\r\n")
    assert head.split(b" ", 1)[1].startswith(status)
    assert b"Content-Type: application/json" in head
    assert list(json.loads(body)) == ["error"]
    assert request_anew(server) == OK


def test_a_body_slightly_above_the_limit_gets_a_response(serve):
    with connected(serve(max_body_bytes=1000)) as connection:
        status, body = request(connection, BODY.ljust(500_000))
        assert status == 413 and "more than 1000 bytes" in body["error"]
        assert request(connection) == OK


def test_slow_senders_and_idle_clients_are_disconnected(serve, pool):
    server = serve(receive_s=1.0)
    half = POST + b"Content-Length: 9\r\n\r\nx"
    idle = [pool.submit(send_raw, server, data) for data in (half, b"")]
    with connect(server) as connection:
        connection.settimeout(0.1)

        def is_closed():
            try:
                connection.sendall(b"G")
                return not connection.recv(1)
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_closed)
    assert results(idle) == [b"", b""]
    assert request_anew(server) == OK


def test_disconnected_clients_do_no_harm(serve, recorder):
    server = serve()
    recorder.gate.clear()
    head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n"
    for _ in range(5):
        with connect(server) as connection:
            connection.sendall(head.encode() + BODY)
    wait_until(lambda: server.dispatcher.in_flight == 5)
    recorder.gate.set()
    wait_until(lambda: server.dispatcher.in_flight == 0)
    assert request_anew(server) == OK


def test_connections_above_the_limit_wait(serve):
    server = serve(max_connections=5)
    for connection in [connect(server) for _ in range(10)]:
        connection.close()
    assert request_anew(server) == OK


def test_waitress_logs_nothing(capfd, caplog, serve, blocked):
    with caplog.at_level(logging.INFO):
        with blocked(serve(threads=1), 4) as futures:
            pass
        assert results(futures) == [OK] * 4
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.name.startswith("waitress")]


def test_a_port_or_host_that_cannot_be_bound_is_a_users_mistake(serve, recorder):
    local, busy = "127.0.0.1", serve().port
    for host, port, message in (
        (local, busy, f"port {busy} of '{local}'"),
        (local, 70_000, "must be 0 to 65535, received 70000"),
        ("no.such.host.invalid", 0, "of 'no.such.host.invalid' cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            RestServer(build_app(recorder), host, port, 1)
