import http.client
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from mmkeras.errors import UserError
from serving.server.engine.data_plane import Limits
from serving.server.rest import api
from serving.server.rest.app import RestApp
from serving.server.rest.server import RestServer
from tests.serving.server.assertions import WAIT_S, wait_until

PREDICT = "/v1/models/halves:predict"
BODY = b'{"instances": [1, 2, 5]}'
OK = (200, {"predictions": [2.5, 3.0, 4.5]})
POST = b"POST / HTTP/1.1\r\n"
POST_PREDICT = f"POST {PREDICT} HTTP/1.1\r\n".encode()


@pytest.fixture
def gate(monkeypatch):
    """Event that requests wait for; set at first."""
    gate, run_action = threading.Event(), api.run_action
    gate.set()

    def run(data_plane, request):
        assert gate.wait(WAIT_S)
        return run_action(data_plane, request)

    monkeypatch.setattr(api, "run_action", run)
    return gate


@pytest.fixture
def serve(data_plane, gate):
    """Starts servers on free ports; each has its application as `app`."""
    servers = []

    def serve(message_bytes=2**20, **settings):
        limits = Limits(in_flight=8, message_bytes=message_bytes)
        app = RestApp(data_plane, limits, timeout_s=None)
        servers.append(RestServer(app, "127.0.0.1", 0, **settings))
        servers[-1].app = app
        servers[-1].start()
        return servers[-1]

    yield serve
    gate.set()
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
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return "disconnected"


def send_raw(server, data):
    """Sends bytes; returns all bytes of the response."""
    with connect(server) as connection:
        response = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                response += part
        except (ConnectionResetError, BrokenPipeError):  # it has not read all bytes
            pass
        return response


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def blocked(gate, pool):
    """Context with futures of requests that run and wait."""

    @contextmanager
    def blocked(server, count):
        gate.clear()
        try:
            futures = [pool.submit(request_anew, server) for _ in range(count)]
            wait_until(lambda: server.app.running == count)
            yield futures
        finally:
            gate.set()

    return blocked


def results(futures):
    return [future.result(WAIT_S) for future in futures]


def test_the_port_is_closed_until_the_start(data_plane):
    app = RestApp(data_plane, Limits())
    server = RestServer(app, "127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        connect(server)
    assert server.stop(1)


def test_a_connection_serves_many_requests_without_a_server_name(serve):
    with connected(serve()) as connection:
        assert [request(connection) for _ in range(50)] == [OK] * 50
        assert request(connection, iter([BODY[:7], BODY[7:]])) == OK  # chunked
        connection.request("HEAD", PREDICT)
        connection.getresponse().read()
        connection.request("GET", "/v1/models/halves")
        headers = connection.getresponse().headers
    assert headers["Content-Type"] == "application/json"
    assert "Server" not in headers


@pytest.mark.parametrize("cors", [True, False])
def test_pages_of_other_sites_may_use_the_api_if_cors_is_on(serve, cors):
    with connected(serve(cors=cors)) as connection:
        headers = {"Origin": "http://a", "Access-Control-Request-Method": "POST"}
        connection.request("OPTIONS", PREDICT, headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        assert (response.headers["Access-Control-Allow-Origin"] == "*") == cors


def test_running_requests_are_finished_while_the_server_stops(serve, pool, blocked):
    server = serve()
    with connected(server) as idle:
        assert request(idle) == OK
        with blocked(server, 1) as futures:
            stopping = pool.submit(server.stop, WAIT_S)
            wait_until(lambda: request_anew_fails(server))
        assert results(futures) == [OK]
        assert stopping.result(WAIT_S) is True
        with pytest.raises((OSError, http.client.HTTPException)):
            request(idle)


def request_anew_fails(server):
    try:
        connect(server).close()
        return False
    except OSError:
        return True


def test_a_request_longer_than_the_drain_time_loses_its_result(serve, blocked):
    server = serve()
    with blocked(server, 1) as futures:
        assert server.stop(0.1) is False
        assert results(futures) == [(503, {"error": "The server has stopped."})]


def test_a_body_that_does_not_arrive_before_the_stop_is_no_lost_request(serve):
    server = serve()
    with connect(server) as connection:
        connection.sendall(POST_PREDICT + b"Content-Length: 9\r\n\r\nx")
        time.sleep(0.2)
        assert server.stop(0.1) is True


def test_a_slow_client_gets_all_of_a_large_response(serve):
    with connected(serve(message_bytes=2**24)) as connection:
        body = {"signature_name": "echo", "instances": ["x" * 10_000] * 300}
        connection.request("POST", PREDICT, json.dumps(body))
        time.sleep(0.2)
        response = json.loads(connection.getresponse().read())
    assert [row["length"] for row in response["predictions"]] == [10_000] * 300


LENGTH_AND_CHUNKED = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        (POST + LENGTH_AND_CHUNKED, b"400 Bad Request"),
        (CHUNKED + b"?\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\n" + b"A: x\r\n" * 200 + b"\r\n", b"431 "),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", b"431 "),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 900_000, b"431 "),
        (POST_PREDICT + b"Content-Length: 2500000\r\n\r\n", b"413 "),
    ],
)
def test_invalid_http_is_an_error_in_json_and_the_connection_is_closed(
    serve, data, status
):
    server = serve()
    head, _, body = send_raw(server, data).partition(b"\r\n\r\n")
    assert head.split(b" ", 1)[1].startswith(status)
    assert b"content-type: application/json" in head
    assert list(json.loads(body)) == ["error"]
    assert request_anew(server) == OK


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"0\r\n" + b"A: x\r\n" * 200_000,  # trailers
        CHUNKED + b"1;" + b"x" * 2_000_000,  # an extension of a chunk
        b"GET / HTTP/1.1\r\n\r\n" * 100_000,  # requests that wait for responses
    ],
)
def test_endless_heads_are_disconnected(serve, data):
    server = serve()
    assert len(send_raw(server, data)) < len(data)
    assert request_anew(server) == OK


def test_a_body_slightly_above_the_limit_gets_a_response(serve):
    with connected(serve(message_bytes=1000)) as connection:
        status, body = request(connection, BODY.ljust(500_000))
        assert status == 413 and "more than 1000 bytes" in body["error"]
        assert request(connection) == OK


def test_slow_senders_and_idle_clients_are_disconnected(serve, pool):
    server = serve(receive_s=1.0)
    half = POST_PREDICT + b"Content-Length: 9\r\n\r\nx"
    head = b"GET / HTTP/1.1\r\nA: "
    idle = [pool.submit(send_raw, server, data) for data in (half, head, b"")]
    assert results(idle) == [b"", b"", b""]
    assert request_anew(server) == OK


def test_a_client_that_reads_no_response_is_disconnected(serve):
    server = serve(receive_s=1.0, message_bytes=2**24)
    body = json.dumps({"signature_name": "echo", "instances": ["x" * 10_000] * 900})
    head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode() + body.encode())
        wait_until(lambda: server.app.running == 1)
        wait_until(lambda: server.app.running == 0)
    assert request_anew(server) == OK


def test_disconnected_clients_do_no_harm(serve, gate):
    server = serve()
    gate.clear()
    head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n"
    for _ in range(5):
        with connect(server) as connection:
            connection.sendall(head.encode() + BODY)
    wait_until(lambda: server.app.running == 5)
    gate.set()
    wait_until(lambda: server.app.running == 0)
    assert request_anew(server) == OK


def test_many_slow_connections_do_not_shut_the_port(serve, blocked):
    server = serve(max_connections=5)
    half = POST_PREDICT + b"Content-Length: 9\r\n\r\nx"
    with blocked(server, 2) as futures:
        slow = [connect(server) for _ in range(20)]
        for connection in slow:
            connection.sendall(half)
        answer = ThreadPoolExecutor(1).submit(request_anew, server)
        wait_until(lambda: server.app.running == 3)
    assert results([*futures, answer]) == [OK] * 3
    for connection in slow:
        connection.close()


def test_nothing_is_logged_in_normal_use(capfd, caplog, serve, blocked):
    with caplog.at_level(logging.INFO):
        server = serve()
        with blocked(server, 4) as futures:
            pass
        assert results(futures) == [OK] * 4
        send_raw(server, b"nonsense\r\n\r\n")
        server.stop(5)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.name.startswith("uvicorn")]


def test_a_port_or_host_that_cannot_be_bound_is_a_users_mistake(serve, data_plane):
    local, busy = "127.0.0.1", serve().port
    app = RestApp(data_plane, Limits())
    for host, port, message in (
        (local, busy, f"port {busy} of '{local}'"),
        (local, 70_000, "must be 0 to 65535, received 70000"),
        ("no.such.host.invalid", 0, "of 'no.such.host.invalid' cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            RestServer(app, host, port)
