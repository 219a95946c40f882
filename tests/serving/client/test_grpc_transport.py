"""gRPC transport: dead connections, several addresses, message limits, diagnosis."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest

from serving.client.errors import PredictError
from serving.client.grpc_transport import GrpcTransport
from serving.client.requests import OUTPUTS, PredictCall
from serving.client.settings import Settings, Tls
from tests.serving.client.certificates import grpc_credentials
from tests.serving.client.fake_server import FakeServer, Fault, make_model, serve_grpc
from tests.serving.client.network import LOCAL, free_port, listen, proxy
from tests.serving.client.transport_calls import (
    PREDICT,
    SPEC,
    TIMEOUT_S,
    open_transport,
)


@pytest.mark.parametrize(
    ("text", "is_transient"),
    [
        ("Too many bytes of requests in flight: 9 of 1024, and 5 more asked for", True),
        ("currently 4 batches enqueued and max_enqueued_batches is 4", True),
        ("Run() timeout exceeded while waiting in batching queue", True),
        pytest.param("9" * 5000, True, id="digits"),
        ("SERVER: Received message larger than max (5000000 vs. 4194304)", False),
        ("Received message larger than max (20 bytes, inflated)", False),
    ],
)
def test_a_full_queue_is_transient_and_a_large_request_is_not(
    send, text_server, text, is_transient
):
    text_server.faults.append(Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, text))
    with serve_grpc(text_server) as port:
        error = send.error(f"{LOCAL}:{port}")
    assert error.message == text and error.is_transient == is_transient


def test_a_slow_network_works(send, text_server):
    with serve_grpc(text_server) as port, proxy(port, delay_s=0.15) as slow_port:
        assert send(f"{LOCAL}:{slow_port}").labels == ["a"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_dead_connection_is_replaced(text_server, is_async):
    dead = threading.Event()
    with serve_grpc(text_server) as port, proxy(port, dead=dead) as dying_port:
        settings = Settings(target=f"{LOCAL}:{dying_port}")
        with open_transport(settings, is_async) as send:
            assert send(PREDICT, TIMEOUT_S).labels == ["a"]
            dead.set()
            with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
                send(PREDICT, 0.3)
            assert send(PREDICT, TIMEOUT_S).labels == ["a"]


def test_a_late_response_among_others_keeps_the_connection(text_server):
    late, connections = threading.Event(), []
    text_server.before = lambda _: text_server.calls["Predict"] == 1 and late.wait(60)
    with (
        serve_grpc(text_server) as port,
        proxy(port, connections=connections) as front_port,
        open_transport(Settings(target=f"{LOCAL}:{front_port}"), False) as send,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(send, PREDICT, 2)
        while not text_server.calls["Predict"]:
            time.sleep(0.01)
        assert send(PREDICT, TIMEOUT_S).labels == ["a"]
        with pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            first.result(TIMEOUT_S)
        late.set()
        assert send(PREDICT, TIMEOUT_S).labels == ["a"]
    assert len(connections) == 1


def test_all_addresses_of_a_name_are_used_in_turn(send, text_server):
    with serve_grpc(text_server) as port:
        assert send(f"dns:///localhost:{port}").labels == ["a"]
    other = FakeServer(make_model(top=1))
    with serve_grpc(text_server) as one, serve_grpc(other) as two:
        fields = vars(Settings(target="t:1"))
        target = f"ipv4:{LOCAL}:{one},{LOCAL}:{two}"
        transport = GrpcTransport(SimpleNamespace(**{**fields, "target": target}))
        deadline_s, labels = time.monotonic() + TIMEOUT_S, set()
        while labels != {"a", "b"} and time.monotonic() < deadline_s:
            labels |= set(transport.send(PREDICT, TIMEOUT_S).labels)
        transport.close()
    assert labels == {"a", "b"}


@contextlib.contextmanager
def serve_bytes(response=b"", max_bytes=2**22):
    """Responds to every call with `response`; yields the target."""
    handler = grpc.unary_unary_rpc_method_handler(lambda *_: response)

    class AnyMethod(grpc.GenericRpcHandler):
        def service(self, details):
            return handler

    options = [("grpc.max_receive_message_length", max_bytes)]
    server = grpc.server(ThreadPoolExecutor(1), [AnyMethod()], options=options)
    port = server.add_insecure_port(f"{LOCAL}:0")
    server.start()
    yield f"{LOCAL}:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("response", "text"),
    [(b"\xff\xff\xff", "TensorFlow Serving"), (b"", "no output 'probabilities'")],
)
def test_a_response_without_outputs_is_an_error(send, response, text):
    with serve_bytes(response) as target:
        error = send.error(target)
    assert error.code == "INTERNAL" and text in str(error)


def test_a_request_above_the_servers_limit_is_not_transient(send):
    call = PredictCall(spec=SPEC, columns={"text": [b"x" * 3000]})
    with serve_bytes(max_bytes=1000) as target:
        error = send.error(target, call)
    assert error.code == "RESOURCE_EXHAUSTED" and not error.is_transient
    assert error.is_from_server and "1000" in error.message


def test_a_connection_that_closes_during_a_call_is_transient(send):
    def close(connection):
        connection.recv(4096)
        connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        connection.recv(4096)

    with listen(close) as port:
        error = send.error(f"{LOCAL}:{port}")
    assert error.code == "UNAVAILABLE" and error.is_transient


def test_an_error_leaves_no_thread_that_close_would_break(text_server):
    """A thread that polls the channel prints a traceback if the channel closes."""
    text_server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE, "loading"))
    with (
        serve_grpc(text_server) as port,
        open_transport(Settings(target=f"{LOCAL}:{port}"), False) as send,
    ):
        before = set(threading.enumerate())
        with pytest.raises(PredictError) as caught:
            send(PREDICT, TIMEOUT_S)
        new = [x.name for x in set(threading.enumerate()) - before]
    assert caught.value.is_from_server
    # Those of the server, which runs here too, are in a pool.
    assert not [name for name in new if not name.startswith("ThreadPoolExecutor")]


def test_the_diagnosis_ends_with_the_deadline_of_the_call(send, monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait(30))
    start_s = time.monotonic()
    error = send.error(f"{LOCAL}:{free_port()}", timeout_s=0.5)
    end.set()
    assert time.monotonic() - start_s < 2
    assert "cannot be reached: " in str(error) and error.is_transient


def test_compressed_requests_arrive(send, text_server):
    requests = []
    text_server.before = requests.append
    call = PredictCall(spec=SPEC, columns={"text": [b"x" * 10_000]})
    with serve_grpc(text_server) as port:
        assert send(f"{LOCAL}:{port}", call, gzip=True).labels == ["a"]
    assert requests[0].inputs["text"].string_val[0] == b"x" * 10_000
    assert set(requests[0].output_filter) == set(OUTPUTS)


def test_without_an_authority_the_system_has_the_trusted_ones(
    send, text_server, certificates, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates["ca"]))
    with serve_grpc(text_server, grpc_credentials(certificates)) as port:
        assert send(f"localhost:{port}", tls=Tls()).labels == ["a"]
