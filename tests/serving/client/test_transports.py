"""Replies, errors, limits and TLS of both transports, blocking and awaited."""

import threading

import grpc
import pytest

from serving.client.requests import (
    ClassNamesCall,
    MetadataCall,
    ModelSpec,
    PredictCall,
    VersionsCall,
)
from serving.client.settings import Tls
from tests.serving.client.fake_server import (
    FakeServer,
    Fault,
    make_model,
    serve_grpc,
    serve_rest,
)
from tests.serving.client.network import LOCAL, free_port
from tests.serving.client.transport_calls import PREDICT, SPEC

CODES = grpc.StatusCode
SCHEMES = {"grpc": "", "rest": "http://"}


def test_each_call_has_its_reply(send, serve, text_server):
    target = serve(text_server)
    metadata = send(target, MetadataCall(spec=SPEC))
    assert metadata.version == 3 and metadata.inputs["serving_default"] == {
        "text": "DT_STRING"
    }
    assert send(target, ClassNamesCall(spec=SPEC, row={"text": b""})) == ("a", "b")
    outputs = send(target, PREDICT)
    assert outputs.version == (3 if serve.kind == "grpc" else None)
    assert outputs.labels == ["a"] and outputs.statuses == ["ok"]
    assert outputs.probabilities == [pytest.approx([0.9, 0.1])]
    assert send(target, VersionsCall(model="mmkeras")) == {3: "AVAILABLE"}


def test_a_version_or_a_label_selects_the_model(send, serve, text_server):
    text_server.versions[4] = make_model(top=1)
    text_server.labels["stable"] = 3
    target = serve(text_server)
    stable = ModelSpec(model="mmkeras", label="stable")
    for spec, label in [(SPEC, "b"), (SPEC.at(3), "a"), (stable, "a")]:
        outputs = send(target, PredictCall(spec=spec, columns=PREDICT.columns))
        assert outputs.labels == [label]


def test_bytes_arrive_unchanged(send, serve, text_server):
    received = []
    text_server.before = lambda r: received.extend(r.inputs["text"].string_val)
    column = [bytes(range(256)), b"", b"a"]
    send(serve(text_server), PredictCall(spec=SPEC, columns={"text": column}))
    assert received == column


@pytest.mark.parametrize(
    ("code", "is_transient"),
    [
        (CODES.UNAVAILABLE, True),
        (CODES.RESOURCE_EXHAUSTED, True),
        (CODES.INVALID_ARGUMENT, False),
        (CODES.NOT_FOUND, False),
        (CODES.INTERNAL, False),
    ],
)
def test_an_error_of_the_server_keeps_its_code_and_text(
    send, serve, text_server, code, is_transient
):
    text_server.faults.append(Fault(code, "the queue is full", {"retry-after": "7"}))
    error = send.error(serve(text_server))
    assert (error.code, error.message) == (code.name, "the queue is full")
    assert error.is_from_server and error.is_transient == is_transient
    assert error.retry_after_s == (None if serve.kind == "grpc" else 7.0)
    assert text_server.calls["Predict"] == 1


def test_a_late_response_is_not_waited_for(send, serve, text_server):
    end = threading.Event()
    text_server.before = lambda _: end.wait(60)
    error = send.error(serve(text_server), timeout_s=0.2)
    end.set()
    assert error.code == "DEADLINE_EXCEEDED" and not error.is_transient


@pytest.mark.parametrize("kind", SCHEMES)
def test_without_a_server_the_connection_is_refused(send, kind):
    error = send.error(f"{SCHEMES[kind]}{LOCAL}:{free_port()}")
    assert "refused the connection" in str(error) and error.is_transient


def test_a_port_of_the_other_protocol_is_recognized(send, text_server):
    with serve_rest(text_server) as port:
        assert "not a gRPC port" in str(send.error(f"{LOCAL}:{port}"))
    with serve_grpc(text_server) as port:
        assert "not a REST port" in str(send.error(f"http://{LOCAL}:{port}"))


def test_a_response_above_the_limit_is_refused(send, serve):
    server = FakeServer(make_model(classes=tuple(map(str, range(5000)))))
    error = send.error(serve(server), max_message_bytes=4096)
    assert error.code == "RESOURCE_EXHAUSTED" and not error.is_transient
    assert "more than 4096 bytes. Raise --max-message-bytes" in str(error)


def test_tls_checks_the_authority_and_the_name(send, serve, text_server, certificates):
    target = serve(text_server, certificates, host="localhost")
    address = target.replace("localhost", LOCAL)
    trusted = Tls(ca=certificates["ca"])
    assert send(target, tls=trusted).labels == ["a"]
    with_name = Tls(ca=certificates["ca"], server_name="localhost")
    assert send(address, tls=with_name).labels == ["a"]
    for remedy, other, tls in [
        ("--server-name", address, trusted),
        ("--ca FILE", target, Tls(ca=certificates["other"])),
        ("--ca FILE", target, Tls()),
        ("--tls", target.replace("https", "http"), None),
    ]:
        assert remedy in str(send.error(other, tls=tls))


def test_a_server_without_tls_is_recognized(send, serve, text_server, certificates):
    target = serve(text_server, host="localhost").replace("http:", "https:")
    error = send.error(target, tls=Tls(ca=certificates["ca"]))
    assert "does not use TLS" in str(error) and not error.is_transient


def test_mutual_tls_sends_a_certificate(send, serve, text_server, certificates):
    target = serve(text_server, certificates, mutual=True, host="localhost")
    pair = {"cert": certificates["client"], "key": certificates["client_key"]}
    assert send(target, tls=Tls(ca=certificates["ca"], **pair)).labels == ["a"]
    assert "--cert" in str(send.error(target, tls=Tls(ca=certificates["ca"])))
