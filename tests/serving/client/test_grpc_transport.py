"""gRPC: faults, TLS and sizes, waited for and awaited."""

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import pytest

from serving.client.errors import PredictError
from serving.client.grpc_transport import AsyncGrpcTransport, GrpcTransport
from serving.client.requests import (
    ClassNamesCall,
    MetadataCall,
    ModelSpec,
    PredictCall,
    VersionsCall,
)
from serving.client.settings import Settings, Tls
from tests.serving.client import fake_server as stands
from tests.serving.client.fake_server import LOCAL, Fault, grpc_door, rest_door

CODES = grpc.StatusCode
SPEC = ModelSpec(model="mmkeras")
ASK = PredictCall(spec=SPEC, columns={"text": [b"hi"]})
TIMEOUT_S = 20


def waited(settings, call, timeout_s):
    door = GrpcTransport(settings)
    try:
        return door.send(call, timeout_s)
    finally:
        door.close()


def awaited(settings, call, timeout_s):
    async def send():
        door = AsyncGrpcTransport(settings)
        try:
            return await door.send(call, timeout_s)
        finally:
            await door.close()

    return asyncio.run(send())


@pytest.fixture(params=[waited, awaited], ids=["waited", "awaited"])
def send(request):
    def send(target, call=ASK, timeout_s=TIMEOUT_S, **settings):
        return request.param(Settings(target=target, **settings), call, timeout_s)

    return send


def failing(send, *args, **kwargs):
    with pytest.raises(PredictError) as error:
        send(*args, **kwargs)
    return error.value


def test_each_call_has_its_reply(send, plain):
    with grpc_door(plain) as port:
        target = f"{LOCAL}:{port}"
        found = send(target, MetadataCall(spec=SPEC))
        assert found.version == 3 and found.inputs["serving_default"] == ("text",)
        assert send(target, ClassNamesCall(spec=SPEC, modality="text")) == ("a", "b")
        outputs = send(target, ASK)
        assert outputs.version == 3 and outputs.labels == ["a"]
        assert outputs.probabilities == [pytest.approx([0.9, 0.1])]
        assert outputs.statuses == ["ok"]
        assert send(target, VersionsCall(model="mmkeras")) == {3: "AVAILABLE"}


def test_versions_and_labels_are_asked_for(send, plain):
    plain.versions[4] = stands.made_up(top=1)
    plain.labels["stable"] = 3
    with grpc_door(plain) as port:
        target = f"{LOCAL}:{port}"
        for spec, label in [
            (SPEC, "b"),
            (SPEC.at(3), "a"),
            (ModelSpec(model="mmkeras", label="stable"), "a"),
        ]:
            assert send(target, PredictCall(spec=spec, columns=ASK.columns)).labels == [
                label
            ]


@pytest.mark.parametrize(
    ("code", "is_transient"),
    [
        (CODES.UNAVAILABLE, True),
        (CODES.RESOURCE_EXHAUSTED, True),
        (CODES.INVALID_ARGUMENT, False),
        (CODES.NOT_FOUND, False),
        (CODES.FAILED_PRECONDITION, False),
        (CODES.INTERNAL, False),
        (CODES.CANCELLED, False),
    ],
)
def test_the_servers_own_errors_keep_their_code_and_text(
    send, plain, code, is_transient
):
    plain.faults.append(Fault(code, "the queue is full"))
    with grpc_door(plain) as port:
        error = failing(send, f"{LOCAL}:{port}")
    assert (error.code, error.message) == (code.name, "the queue is full")
    assert error.is_answer and error.is_transient == is_transient
    assert plain.calls["Predict"] == 1


@pytest.mark.parametrize(
    ("text", "is_transient"),
    [
        ("Too many bytes of requests in flight: 9 of 1024, and 5 more asked for", True),
        ("currently 4 batches enqueued and max_enqueued_batches is 4", True),
        ("Run() timeout exceeded while waiting in batching queue", True),
        ("SERVER: Received message larger than max (5000000 vs. 4194304)", False),
        ("Received message larger than max (20 bytes, inflated)", False),
    ],
)
def test_a_full_queue_is_tried_again_and_too_large_a_request_is_not(
    send, plain, text, is_transient
):
    plain.faults.append(Fault(CODES.RESOURCE_EXHAUSTED, text))
    with grpc_door(plain) as port:
        error = failing(send, f"{LOCAL}:{port}")
    assert error.message == text and error.is_transient == is_transient


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_told(send, plain):
    gone = threading.Event()
    plain.before = lambda _: gone.wait(60)
    with grpc_door(plain) as port:
        error = failing(send, f"{LOCAL}:{port}", timeout_s=0.2)
        gone.set()
    assert error.code == "DEADLINE_EXCEEDED" and not error.is_transient


def free_port():
    with socket.socket() as free:
        free.bind((LOCAL, 0))
        return free.getsockname()[1]


def test_where_nobody_listens_the_connection_is_refused(send):
    error = failing(send, f"{LOCAL}:{free_port()}")
    assert "refused the connection" in str(error) and error.is_transient


@contextmanager
def far_away(port, delay_s=0.0, gone=None):
    """Passes bytes on to a port, each so much later; yields the port before it.

    Once `gone` is set, connections from before pass nothing on, without a word.
    """
    gone = gone or threading.Event()

    def passing(source, sink):
        is_old = not gone.is_set()
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                time.sleep(delay_s)
                if not (is_old and gone.is_set()):
                    sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    def accepting():
        with contextlib.suppress(OSError):
            while True:
                pair = (listener.accept()[0], socket.create_connection((LOCAL, port)))
                opened.extend(pair)
                for ends in (pair, pair[::-1]):
                    threading.Thread(target=passing, args=ends, daemon=True).start()

    opened = []
    with socket.create_server((LOCAL, 0)) as listener:
        threading.Thread(target=accepting, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for one in opened:
        one.close()


def test_a_server_far_away_is_reached(send, plain):
    with grpc_door(plain) as port, far_away(port, delay_s=0.15) as before:
        assert send(f"{LOCAL}:{before}").labels == ["a"]


def test_a_peer_that_went_without_a_word_is_asked_anew(plain):
    gone = threading.Event()
    with grpc_door(plain) as port, far_away(port, gone=gone) as before:
        door = GrpcTransport(Settings(target=f"{LOCAL}:{before}"))
        assert door.send(ASK, TIMEOUT_S).labels == ["a"]
        gone.set()
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            door.send(ASK, 0.3)
        assert door.send(ASK, TIMEOUT_S).labels == ["a"]
        door.close()


def test_so_it_is_where_answers_are_awaited(plain):
    async def use(port):
        door = AsyncGrpcTransport(Settings(target=f"{LOCAL}:{port}"))
        assert (await door.send(ASK, TIMEOUT_S)).labels == ["a"]
        gone.set()
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            await door.send(ASK, 0.3)
        assert (await door.send(ASK, TIMEOUT_S)).labels == ["a"]
        await door.close()

    gone = threading.Event()
    with grpc_door(plain) as port, far_away(port, gone=gone) as before:
        asyncio.run(use(before))


def test_a_late_answer_among_others_keeps_the_channel(plain):
    late = threading.Event()
    plain.before = lambda _: plain.calls["Predict"] == 1 and late.wait(60)
    with grpc_door(plain) as port, ThreadPoolExecutor(1) as pool:
        door = GrpcTransport(Settings(target=f"{LOCAL}:{port}"))
        channel = door._channel
        asked = pool.submit(door.send, ASK, 3)
        while not plain.calls["Predict"]:
            time.sleep(0.01)
        assert door.send(ASK, TIMEOUT_S).labels == ["a"]
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            asked.result(TIMEOUT_S)
        late.set()
        assert door._channel is channel
        door.close()


def test_a_name_of_the_dns_is_asked_at_each_of_its_addresses_in_turn(send, plain):
    with grpc_door(plain) as port:
        assert send(f"dns:///localhost:{port}").labels == ["a"]
    other = stands.Stand(stands.made_up(top=1))
    with grpc_door(plain) as one, grpc_door(other) as two:
        target = f"ipv4:{LOCAL}:{one},{LOCAL}:{two}"
        door = GrpcTransport(
            SimpleNamespace(**{**vars(Settings(target="t:1")), "target": target})
        )
        deadline = time.monotonic() + TIMEOUT_S
        labels = set()
        while labels != {"a", "b"} and time.monotonic() < deadline:
            labels |= set(door.send(ASK, TIMEOUT_S).labels)
        door.close()
    assert labels == {"a", "b"}


def test_the_rest_port_is_no_grpc_port(send, plain):
    with rest_door(plain) as port:
        assert "is no gRPC port" in str(failing(send, f"{LOCAL}:{port}"))


def test_what_is_no_answer_of_tensorflow_serving_is_said(send):
    class Anything(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda *_: b"\xff\xff\xff")

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Anything()])
    port = server.add_insecure_port(f"{LOCAL}:0")
    server.start()
    error = failing(send, f"{LOCAL}:{port}")
    server.stop(None).wait()
    assert error.code == "INTERNAL" and "none of TensorFlow Serving's" in str(error)


def test_an_answer_larger_than_allowed_is_not_asked_for_again(send):
    wide = stands.Stand(stands.made_up(classes=tuple(map(str, range(5000)))))
    with grpc_door(wide) as port:
        error = failing(send, f"{LOCAL}:{port}", max_message_bytes=4096)
    assert error.code == "RESOURCE_EXHAUSTED" and not error.is_transient
    assert "gave an answer of more than 4096 bytes. Raise --max-m" in str(error)


@contextmanager
def narrow_door(most):
    """Serves nothing, and takes no request of more bytes; yields the port."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)

    class Anything(grpc.GenericRpcHandler):
        def service(self, details):
            return handler

    options = [("grpc.max_receive_message_length", most)]
    server = grpc.server(ThreadPoolExecutor(1), [Anything()], options=options)
    port = server.add_insecure_port(f"{LOCAL}:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_a_request_larger_than_the_server_takes_is_not_sent_again(send):
    call = PredictCall(spec=SPEC, columns={"text": [b"x" * 3000]})
    with narrow_door(1000) as port:
        error = failing(send, f"{LOCAL}:{port}", call)
    assert error.code == "RESOURCE_EXHAUSTED" and not error.is_transient
    assert error.is_answer and "1000" in error.message


def test_a_connection_closed_amid_a_call_is_transient(send):
    def close(connection):
        connection.recv(4096)
        connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        connection.recv(4096)
        connection.close()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                close(listener.accept()[0])

    with socket.create_server((LOCAL, 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        error = failing(send, f"{LOCAL}:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
    assert error.code == "UNAVAILABLE" and error.is_transient


def test_the_diagnosis_of_a_failed_call_ends_with_the_calls_time(send, monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hanging.wait(30))
    began_s = time.monotonic()
    error = failing(send, f"{LOCAL}:{free_port()}", timeout_s=0.5)
    hanging.set()
    assert time.monotonic() - began_s < 2
    assert "cannot be reached: " in str(error) and error.is_transient


def test_the_diagnosis_does_not_stop_the_loop(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(30))

    async def run():
        door = AsyncGrpcTransport(Settings(target=f"{LOCAL}:{free_port()}"))
        asked = asyncio.ensure_future(door.send(ASK, 0.6))
        ticks = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            ticks += 1
        await asyncio.gather(asked, return_exceptions=True)
        await door.close()
        return ticks

    assert asyncio.run(run()) > 10
    ended.set()


def test_packed_requests_are_answered(send, plain):
    seen = []
    plain.before = lambda request: seen.append(request.inputs["text"].string_val[0])
    call = PredictCall(spec=SPEC, columns={"text": [b"x" * 10_000]})
    with grpc_door(plain) as port:
        assert send(f"{LOCAL}:{port}", call, gzip=True).labels == ["a"]
    assert seen == [b"x" * 10_000]


# TLS --------------------------------------------------------------------------


def credentials(files, mutual):
    pair = (files["server_key"].read_bytes(), files["server"].read_bytes())
    ca = files["ca"].read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], ca, mutual)


def test_tls_trusts_whom_it_is_told_and_checks_the_name(send, plain, certificates):
    with grpc_door(plain, credentials(certificates, False)) as port:
        trusted = Tls(ca=certificates["ca"])
        assert send(f"localhost:{port}", tls=trusted).labels == ["a"]
        named = Tls(ca=certificates["ca"], server_name="localhost")
        assert send(f"{LOCAL}:{port}", tls=named).labels == ["a"]

        def said(target, tls):
            return str(failing(send, target, tls=tls))

        assert "--server-name" in said(f"{LOCAL}:{port}", trusted)
        assert "--ca FILE" in said(f"localhost:{port}", Tls(ca=certificates["other"]))
        assert "--ca FILE" in said(f"localhost:{port}", Tls())
        assert "say so (--tls" in said(f"localhost:{port}", None)


def test_without_an_authority_the_systems_own_are_trusted(
    send, plain, certificates, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates["ca"]))
    with grpc_door(plain, credentials(certificates, False)) as port:
        assert send(f"localhost:{port}", tls=Tls()).labels == ["a"]


def test_a_server_without_tls_is_said_to_have_none(send, plain, certificates):
    with grpc_door(plain) as port:
        error = failing(send, f"localhost:{port}", tls=Tls(ca=certificates["ca"]))
    assert "speaks no TLS on this port" in str(error) and not error.is_transient


def test_mutual_tls_shows_a_certificate(send, plain, certificates):
    pair = {"cert": certificates["client"], "key": certificates["client_key"]}
    with grpc_door(plain, credentials(certificates, True)) as port:
        both = Tls(ca=certificates["ca"], **pair)
        assert send(f"localhost:{port}", tls=both).labels == ["a"]
        error = failing(send, f"localhost:{port}", tls=Tls(ca=certificates["ca"]))
    assert "--cert" in str(error)
