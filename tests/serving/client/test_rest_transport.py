"""REST transport: slow, malformed and compressed responses, and closing."""

import ssl
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import httpx
import pytest

from serving.client.errors import PredictError
from serving.client.rest_transport import RestTransport
from serving.client.settings import Settings
from tests.serving.client.fake_server import serve_rest
from tests.serving.client.network import LOCAL, free_port, listen, respond
from tests.serving.client.transport_calls import PREDICT, Sender


@pytest.mark.parametrize(
    ("first", "chunk"), [(b"\r\n", b" "), (b"", b"X: y\r\n")], ids=["body", "headers"]
)
def test_a_slow_response_ends_at_the_deadline(send, first, chunk):
    end = threading.Event()

    def drip(connection):
        connection.sendall(b"HTTP/1.0 200 OK\r\n" + first)
        while not end.wait(0.05):
            connection.sendall(chunk)

    with listen(drip) as port:
        error = send.error(f"http://{LOCAL}:{port}", timeout_s=0.4)
        end.set()
    assert error.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (502, b"<html>Bad gateway", "UNAVAILABLE", "<html>Bad gateway"),
        (403, b"", "PERMISSION_DENIED", "HTTP status 403"),
        (418, b'{"error": "tea"}', "UNKNOWN", "tea"),
        (504, b'{"error": "late"}', "DEADLINE_EXCEEDED", "late"),
        (200, b"<html>", "INTERNAL", "TensorFlow Serving"),
        (200, b"[1]", "INTERNAL", "TensorFlow Serving"),
        (200, b'{"outputs": {"label": ["a"]}}', "INTERNAL", "'probabilities'"),
    ],
)
def test_any_other_response_is_an_error_with_a_code(send, status, body, code, text):
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    with listen(respond(head + body)) as port:
        error = send.error(f"http://{LOCAL}:{port}")
    assert error.code == code and text in str(error)


def test_a_response_with_a_wrong_encoding_is_an_error(send):
    head = b"HTTP/1.0 200 OK\r\ncontent-encoding: gzip\r\n\r\n"
    with listen(respond(head + b"not gzip")) as port:
        assert "TensorFlow Serving" in str(send.error(f"http://{LOCAL}:{port}"))


def test_closing_cancels_pending_calls_and_refuses_new_ones(text_server):
    received, end = threading.Event(), threading.Event()
    text_server.before = lambda _: received.set() or end.wait(60)
    with serve_rest(text_server) as port, ThreadPoolExecutor(1) as pool:
        transport = RestTransport(Settings(target=f"http://{LOCAL}:{port}"))
        future = pool.submit(transport.send, PREDICT, 60)
        assert received.wait(20)
        transport.close()
        with pytest.raises(CancelledError):
            future.result(20)
        end.set()
        with pytest.raises(RuntimeError, match="closed"):
            transport.send(PREDICT, 20)
        transport.close()


def test_a_transport_that_is_never_closed_leaves_no_thread():
    before = set(threading.enumerate())
    transport = RestTransport(Settings(target=f"http://{LOCAL}:{free_port()}"))
    (thread,) = set(threading.enumerate()) - before
    del transport
    thread.join(20)
    assert not thread.is_alive()


def test_a_tls_alert_during_the_request_is_a_predict_error(monkeypatch):
    """httpx does not wrap this error of `ssl`."""

    async def send(*_, **__):
        raise ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")

    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    with pytest.raises(PredictError, match="--cert"):
        Sender(is_async=False)(f"https://localhost:{free_port()}")
