import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from mmkeras.errors import UserError
from serving.server.engine.data_plane import Limits
from serving.server.rest import api
from serving.server.rest.app import RestApp
from serving.server.rest.server import RestServer
from tests.serving.server.assertions import WAIT_S, wait_until

HOST, PREDICT = "127.0.0.1", "/v1/models/halves:predict"
BODY, OK = b'{"instances": [1, 2, 5]}', (200, {"predictions": [2.5, 3.0, 4.5]})
POST = f"POST {PREDICT} HTTP/1.1\r\n".encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HALF = POST + b"Content-Length: 9\r\n\r\nx"
POOL = ThreadPoolExecutor(8)


@pytest.fixture
def serve(data_plane, monkeypatch):
    """Starts servers, whose requests wait for the event `gate`, which is set."""
    gate, run = threading.Event(), api.run_action
    gate.set()
    monkeypatch.setattr(api, "run_action", lambda *a: gate.wait(WAIT_S) and run(*a))

    def serve(message_bytes=2**20, **settings):
        limits = Limits(in_flight=8, message_bytes=message_bytes)
        app = RestApp(data_plane, limits, timeout_s=None)
        server = RestServer(app, HOST, 0, **settings)
        server.app, server.gate = app, gate
        server.start()
        stack.callback(server.stop, 5)
        stack.callback(gate.set)
        return server

    with ExitStack() as stack:
        yield serve


def post(body, header=b"Connection: close\r\n"):
    """Returns a request with a body."""
    return POST + header + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def echo(rows):
    """Returns a request whose response is as large: 10 kB per row."""
    body = {"signature_name": "echo", "instances": ["x" * 10_000] * rows}
    return post(json.dumps(body).encode())


def connect(server):
    return socket.create_connection((HOST, server.port), timeout=WAIT_S)


def is_refused(server):
    with socket.socket() as client:
        return client.connect_ex((HOST, server.port)) != 0


def send(server, data, sleep_s=0):
    """Sends bytes; returns all bytes of the response."""
    response = b""
    # The server may close the connection before it has read all bytes.
    with connect(server) as connection, suppress(ConnectionError):
        connection.sendall(data)
        time.sleep(sleep_s)
        while part := connection.recv(65536):
            response += part
    return response


def predict(server, data=None, **options):
    """Returns the status and the document of the response to a request."""
    head, _, body = send(server, data or post(BODY), **options).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def block(server, count):
    """Starts requests that wait for the gate; returns their futures."""
    server.gate.clear()
    futures = [POOL.submit(predict, server) for _ in range(count)]
    wait_until(lambda: server.app.running == count)
    return futures


def test_the_port_is_closed_until_the_start(data_plane):
    server = RestServer(RestApp(data_plane, Limits()), HOST, 0)
    assert is_refused(server)
    assert server.stop(1)


def test_a_connection_serves_many_requests_without_a_server_name(serve):
    chunks = b"9\r\n%b\r\nf\r\n%b\r\n0\r\n\r\n" % (BODY[:9], BODY[9:])
    requests = post(BODY, b"") * 9 + POST.replace(b"POST", b"HEAD") + b"\r\n"
    data = send(serve(), requests + CHUNKED + chunks + post(BODY))
    assert data.count(b"HTTP/1.1 200 OK") == data.count(b"[2.5,3.0,4.5]") == 11
    assert b"server:" not in data.lower()


@pytest.mark.parametrize("cors", [True, False])
def test_pages_of_other_sites_may_use_the_api_if_cors_is_on(serve, cors):
    headers = b"Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n"
    data = post(b"", headers + b"Connection: close\r\n").replace(b"POST", b"OPTIONS", 1)
    response = send(serve(cors=cors), data)
    assert response.startswith(b"HTTP/1.1 200 OK")
    assert (b"access-control-allow-origin: *\r\n" in response) == cors


def test_running_requests_are_finished_while_the_port_is_closed(serve):
    server = serve()
    with connect(server) as idle:
        (running,) = block(server, 1)
        stopping = POOL.submit(server.stop, WAIT_S)
        wait_until(lambda: is_refused(server))
        server.gate.set()
        assert (running.result(), stopping.result()) == (OK, True)
        assert idle.recv(1) == b""


def test_a_request_longer_than_the_drain_time_loses_its_result(serve):
    server = serve()
    (running,) = block(server, 1)
    assert server.stop(0.1) is False
    assert running.result() == (503, {"error": "The server has stopped."})


def test_a_body_that_does_not_arrive_before_the_stop_is_no_lost_request(serve):
    server = serve()
    with connect(server) as connection:
        connection.sendall(HALF)
        time.sleep(0.2)
        assert server.stop(0.1) is True


def test_invalid_http_is_an_error_in_json_and_ends_the_connection(serve):
    server = serve()
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for data, status in (
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        (POST + both, b"400 Bad Request"),
        (CHUNKED + b"?\r\n\r\n", b"400 Bad Request"),
        (POST + b"A: x\r\n" * 200 + b"\r\n", b"431 "),
        (POST + b"A: " + b"x" * 100_000 + b"\r\n\r\n", b"431 "),
        (POST + b"A: " + b"x" * 900_000, b"431 "),
        (POST + b"Content-Length: 2500000\r\n\r\n", b"413 "),
    ):
        head, _, body = send(server, data).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status), data[:99]
        assert b"content-type: application/json" in head
        assert list(json.loads(body)) == ["error"]
    assert predict(server) == OK


def test_endless_heads_are_disconnected(serve):
    server = serve()
    for data in (
        CHUNKED + b"0\r\n" + b"A: x\r\n" * 200_000,  # trailers
        CHUNKED + b"1;" + b"x" * 2_000_000,  # an extension of a chunk
        b"GET / HTTP/1.1\r\n\r\n" * 100_000,  # requests that wait for responses
    ):
        assert len(send(server, data)) < len(data)
    assert predict(server) == OK


def test_a_body_slightly_above_the_limit_gets_a_response(serve):
    server = serve(message_bytes=1000)
    status, document = predict(server, post(BODY.ljust(500_000)))
    assert status == 413 and "more than 1000 bytes" in document["error"]


def test_a_slow_reader_gets_all_of_a_large_response(serve):
    status, document = predict(serve(message_bytes=2**24), echo(300), sleep_s=0.2)
    assert [row["length"] for row in document["predictions"]] == [10_000] * 300


def test_clients_that_send_or_read_nothing_are_disconnected(serve):
    server = serve(receive_s=1.0, message_bytes=2**24)
    slow = [POOL.submit(send, server, data) for data in (HALF, POST + b"A: ", b"")]
    with connect(server) as reader:
        reader.sendall(echo(900) + b"GET / HTTP/1.1\r\n\r\n")
        wait_until(lambda: server.app.sending == 1)
        wait_until(lambda: server.app.sending == 0)
    assert [future.result() for future in slow] == [b"", b"", b""]
    assert predict(server) == OK


def test_a_stop_does_not_wait_for_a_client_that_reads_nothing(serve):
    server = serve(message_bytes=2**24)
    with connect(server) as reader:
        reader.sendall(echo(900))
        wait_until(lambda: server.app.sending == 1)
        assert server.stop(0.1) is False


def test_disconnected_clients_do_no_harm(serve):
    server = serve()
    server.gate.clear()
    for _ in range(5):
        with connect(server) as connection:
            connection.sendall(post(BODY))
    wait_until(lambda: server.app.running == 5)
    server.gate.set()
    wait_until(lambda: server.app.running == 0)
    assert predict(server) == OK


def test_many_slow_connections_do_not_shut_the_port(serve):
    server = serve(max_connections=5)
    futures = block(server, 2)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(20)]
        for connection in slow:
            connection.sendall(HALF)
        futures.append(POOL.submit(predict, server))
        wait_until(lambda: server.app.running == 3)
        server.gate.set()
        assert [future.result() for future in futures] == [OK] * 3
        with suppress(ConnectionResetError):
            assert slow[0].recv(1) == b""  # it has waited longest


def test_nothing_is_logged_in_normal_use(capfd, caplog, serve):
    caplog.set_level(logging.INFO)
    server = serve()
    assert predict(server) == OK
    send(server, b"nonsense\r\n\r\n")
    server.stop(5)
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def test_a_port_or_host_that_cannot_be_bound_is_a_users_mistake(serve, data_plane):
    app, busy = RestApp(data_plane, Limits()), serve().port
    for host, port, message in (
        (HOST, busy, f"port {busy} of '{HOST}' cannot be opened"),
        (HOST, 70_000, "must be 0 to 65535, received 70000"),
        ("no.such.host.invalid", 0, "of 'no.such.host.invalid' cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            RestServer(app, host, port)
