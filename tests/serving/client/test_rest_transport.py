"""REST: faults, TLS and sizes, waited for and awaited."""

import asyncio
import json
import ssl
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import httpx
import pytest

from serving.client.errors import PredictError
from serving.client.requests import (
    ClassNamesCall,
    MetadataCall,
    ModelSpec,
    PredictCall,
    VersionsCall,
)
from serving.client.rest_transport import AsyncRestTransport, RestTransport
from serving.client.settings import Settings, Tls
from tests.serving.client import fake_server as stands
from tests.serving.client.fake_server import LOCAL, Fault, grpc_door, rest_door
from tests.serving.client.test_grpc_transport import free_port

CODES = grpc.StatusCode
SPEC = ModelSpec(model="mmkeras")
ASK = PredictCall(spec=SPEC, columns={"text": [b"hi"]})


def waited(settings, call, timeout_s):
    door = RestTransport(settings)
    try:
        return door.send(call, timeout_s)
    finally:
        door.close()


def awaited(settings, call, timeout_s):
    async def send():
        door = AsyncRestTransport(settings)
        try:
            return await door.send(call, timeout_s)
        finally:
            await door.close()

    return asyncio.run(send())


@pytest.fixture(params=[waited, awaited], ids=["waited", "awaited"])
def send(request):
    def send(target, call=ASK, timeout_s=20, **settings):
        return request.param(Settings(target=target, **settings), call, timeout_s)

    return send


def failing(send, *args, **kwargs):
    with pytest.raises(PredictError) as error:
        send(*args, **kwargs)
    return error.value


def test_each_call_has_its_reply(send, plain):
    with rest_door(plain) as port:
        target = f"http://{LOCAL}:{port}/"
        found = send(target, MetadataCall(spec=SPEC))
        assert found.version == 3 and found.inputs["serving_default"] == ("text",)
        assert send(target, ClassNamesCall(spec=SPEC, modality="text")) == ("a", "b")
        outputs = send(target, ASK)
        assert outputs.version is None and outputs.labels == ["a"]
        assert outputs.probabilities == [pytest.approx([0.9, 0.1])]
        assert send(target, VersionsCall(model="mmkeras")) == {3: "AVAILABLE"}


def test_versions_and_labels_are_asked_for(send, plain):
    plain.versions[4] = stands.made_up(top=1)
    plain.labels["stable"] = 3
    with rest_door(plain) as port:
        target = f"http://{LOCAL}:{port}"
        for spec, label in [
            (SPEC, "b"),
            (SPEC.at(3), "a"),
            (ModelSpec(model="mmkeras", label="stable"), "a"),
        ]:
            assert send(target, PredictCall(spec=spec, columns=ASK.columns)).labels == [
                label
            ]


def test_bytes_arrive_as_they_were(send, plain):
    seen = []
    plain.before = lambda request: seen.extend(request.inputs["text"].string_val)
    content = [bytes(range(256)), b"", b"a"]
    with rest_door(plain) as port:
        send(
            f"http://{LOCAL}:{port}", PredictCall(spec=SPEC, columns={"text": content})
        )
    assert seen == content


@pytest.mark.parametrize(
    ("code", "is_transient"),
    [
        (CODES.UNAVAILABLE, True),
        (CODES.RESOURCE_EXHAUSTED, True),
        (CODES.INVALID_ARGUMENT, False),
        (CODES.NOT_FOUND, False),
        (CODES.INTERNAL, False),
        (CODES.DEADLINE_EXCEEDED, False),
    ],
)
def test_the_servers_own_errors_keep_their_code_and_text(
    send, plain, code, is_transient
):
    plain.faults.append(Fault(code, "the queue is full", {"retry-after": "7"}))
    with rest_door(plain) as port:
        error = failing(send, f"http://{LOCAL}:{port}")
    assert (error.code, error.message) == (code.name, "the queue is full")
    assert error.is_answer and error.is_transient == is_transient
    assert error.retry_after_s == 7.0 and plain.calls["Predict"] == 1


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_told(send, plain):
    gone = threading.Event()
    plain.before = lambda _: gone.wait(60)
    with rest_door(plain) as port:
        error = failing(send, f"http://{LOCAL}:{port}", timeout_s=0.2)
        gone.set()
    assert error.code == "DEADLINE_EXCEEDED" and not error.is_transient


@pytest.fixture
def answering():
    """Opens a server that answers every POST by what it is given."""
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                answer(self)

            def log_message(self, *_):
                pass

        server = HTTPServer((LOCAL, 0), Handler)
        server.handle_error = lambda *_: None
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return f"http://{LOCAL}:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("first", "drop"), [(b"\r\n", b" "), (b"", b"X: y\r\n")], ids=["body", "headers"]
)
def test_an_answer_in_drops_ends_at_the_deadline_too(send, answering, first, drop):
    ended = threading.Event()

    def drip(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + first)
        while not ended.wait(0.05):
            handler.wfile.write(drop)

    error = failing(send, answering(drip), timeout_s=0.4)
    ended.set()
    assert error.code == "DEADLINE_EXCEEDED"


def says(status, body):
    def answer(handler):
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (502, b"<html>Bad gateway", "UNAVAILABLE", "<html>Bad gateway"),
        (403, b"", "PERMISSION_DENIED", "HTTP status 403"),
        (418, b'{"error": "tea"}', "UNKNOWN", "tea"),
        (200, b"<html>", "INTERNAL", "none of TensorFlow Serving's"),
        (200, b"[1]", "INTERNAL", "none of TensorFlow Serving's"),
        (200, b'{"outputs": {"label": ["a"]}}', "INTERNAL", "'probabilities'"),
    ],
)
def test_whatever_is_answered_becomes_an_error_with_a_code(
    send, answering, status, body, code, text
):
    error = failing(send, answering(says(status, body)))
    assert error.code == code and text in str(error)


def test_an_answer_larger_than_allowed_is_not_read(send, answering):
    body = json.dumps({"outputs": "x" * 10_000}).encode()
    error = failing(send, answering(says(200, body)), max_message_bytes=4096)
    assert error.code == "RESOURCE_EXHAUSTED" and not error.is_transient
    assert "more than 4096 bytes. Raise --max-message-bytes" in str(error)


def test_an_answer_that_is_not_packed_as_it_says_is_an_error(send, answering):
    def answer(handler):
        handler.wfile.write(
            b"HTTP/1.0 200 OK\r\ncontent-encoding: gzip\r\n\r\nno gzip at all"
        )

    assert "none of TensorFlow Serving's" in str(failing(send, answering(answer)))


def test_closing_ends_a_call_under_way_and_takes_no_other(plain):
    arrived, gone = threading.Event(), threading.Event()
    plain.before = lambda _: arrived.set() or gone.wait(60)
    with rest_door(plain) as port, ThreadPoolExecutor(1) as pool:
        door = RestTransport(Settings(target=f"http://{LOCAL}:{port}"))
        asked = pool.submit(door.send, ASK, 60)
        assert arrived.wait(20)
        door.close()
        with pytest.raises(CancelledError):
            asked.result(20)
        gone.set()
        with pytest.raises(RuntimeError, match="closed"):
            door.send(ASK, 20)
        door.close()


def test_a_door_that_is_left_open_leaves_no_thread():
    door = RestTransport(Settings(target=f"http://{LOCAL}:{free_port()}"))
    thread = door._thread
    del door
    thread.join(20)
    assert not thread.is_alive()


def test_where_nobody_listens_the_connection_is_refused(send):
    error = failing(send, f"http://{LOCAL}:{free_port()}")
    assert "refused the connection" in str(error) and error.is_transient


def test_the_grpc_port_is_no_rest_port(send, plain):
    with grpc_door(plain) as port:
        assert "is no REST port" in str(failing(send, f"http://{LOCAL}:{port}"))


# TLS --------------------------------------------------------------------------


def context(files, mutual):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files["server"], files["server_key"])
    if mutual:
        made.load_verify_locations(files["ca"])
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def test_tls_trusts_whom_it_is_told_and_checks_the_name(send, plain, certificates):
    with rest_door(plain, context(certificates, False)) as port:
        trusted = Tls(ca=certificates["ca"])
        assert send(f"https://localhost:{port}", tls=trusted).labels == ["a"]
        named = Tls(ca=certificates["ca"], server_name="localhost")
        assert send(f"https://{LOCAL}:{port}", tls=named).labels == ["a"]

        def said(target, tls):
            return str(failing(send, target, tls=tls))

        assert "--server-name" in said(f"https://{LOCAL}:{port}", trusted)
        assert "--ca FILE" in said(f"https://localhost:{port}", None)
        assert "--tls" in said(f"http://localhost:{port}", None)


def test_a_server_without_tls_is_said_to_have_none(send, plain, certificates):
    with rest_door(plain) as port:
        tls = Tls(ca=certificates["ca"])
        error = failing(send, f"https://localhost:{port}", tls=tls)
    assert "speaks no TLS on this port" in str(error) and not error.is_transient


def test_mutual_tls_shows_a_certificate(send, plain, certificates):
    pair = {"cert": certificates["client"], "key": certificates["client_key"]}
    with rest_door(plain, context(certificates, True)) as port:
        both = Tls(ca=certificates["ca"], **pair)
        assert send(f"https://localhost:{port}", tls=both).labels == ["a"]
        tls = Tls(ca=certificates["ca"])
        error = failing(send, f"https://localhost:{port}", tls=tls)
    assert "certificate" in str(error)


def test_an_alert_that_comes_late_is_an_error_of_ours_too(monkeypatch):
    """It races with the request, and httpx lets Python's own error through."""

    async def late(*_, **__):
        raise ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")

    monkeypatch.setattr(httpx.AsyncClient, "send", late)
    with pytest.raises(PredictError, match="give one by --cert"):
        waited(Settings(target=f"https://localhost:{free_port()}"), ASK, 5)
