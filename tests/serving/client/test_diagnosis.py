"""The cause of a failed connection, found by a connection of its own."""

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
import time
from types import SimpleNamespace

import grpc
import pytest

from serving.client.diagnosis import cause_of, diagnose, find_cause, find_cause_async
from serving.client.errors import Cause
from serving.client.settings import Settings, Tls
from tests.serving.client.fake_server import LOCAL, grpc_door, rest_door

LIMIT_S = 5.0
GRPC, REST = "{}:{}", "http://{}:{}"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def cause(target, tls=None, limit_s=LIMIT_S):
    return diagnose(Settings(target=target, tls=tls), limit_s)


@contextlib.contextmanager
def server(answer):
    """Calls `answer` with each connection, and closes it; yields the port."""

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            answer(connection)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server((LOCAL, 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def sends(content):
    def answer(connection):
        connection.recv(4096)
        connection.sendall(content)

    return answer


def closed_port():
    with socket.create_server((LOCAL, 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("target", [GRPC, "dns:///{}:{}", REST])
def test_a_port_that_nobody_listens_on_refuses(target):
    assert cause(target.format(LOCAL, closed_port())) is Cause.REFUSED


@pytest.mark.parametrize("target", [GRPC, "dns:///{}:{}", REST])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".invalid"])
def test_a_name_without_address_is_no_host(target, host):
    assert cause(target.format(host, 1)) is Cause.NO_HOST


@pytest.mark.parametrize(
    ("answer", "by_grpc", "by_rest"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Cause.NO_GRPC, Cause.CLOSED),
        (SETTINGS, Cause.CLOSED, Cause.NO_REST),
        (b"SSH-2.0-OpenSSH\r\n", Cause.NO_GRPC, Cause.CLOSED),
        (b"\x15\x03\x01\x00\x02\x02\x46", Cause.CLOSED, Cause.CLOSED),  # of TLS
        (b"", Cause.CLOSED, Cause.CLOSED),
    ],
    ids=["http", "http/2", "ssh", "alert", "nothing"],
)
def test_the_first_bytes_show_the_protocol(answer, by_grpc, by_rest):
    with server(sends(answer)) as port:
        assert cause(GRPC.format(LOCAL, port)) is by_grpc
        assert cause(REST.format(LOCAL, port)) is by_rest


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", SETTINGS, b"SSH-2.0\r\n"]
)
def test_a_server_that_answers_the_handshake_with_other_bytes_has_no_tls(answer):
    with server(sends(answer)) as port:
        assert cause(GRPC.format(LOCAL, port), Tls()) is Cause.NO_TLS
        assert cause(f"https://{LOCAL}:{port}") is Cause.NO_TLS


def test_a_rest_and_a_grpc_server_without_tls_are_found_to_have_none(plain):
    for opened in (rest_door(plain), grpc_door(plain)):
        with opened as port:
            assert cause(GRPC.format(LOCAL, port), Tls()) is Cause.NO_TLS
            assert cause(f"https://{LOCAL}:{port}") is Cause.NO_TLS


def test_a_handshake_that_the_server_ends_is_no_missing_tls():
    refused = sends(b"\x15\x03\x01\x00\x02\x02\x46")  # protocol version
    with server(refused) as port:
        assert cause(GRPC.format(LOCAL, port), Tls()) is Cause.HANDSHAKE
    with server(lambda connection: None) as port:
        assert cause(GRPC.format(LOCAL, port), Tls()) is Cause.CLOSED


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_a_certificate_is_checked_for_authority_and_name(plain, certificates, kind):
    trusted, other = Tls(ca=certificates["ca"]), Tls(ca=certificates["other"])
    if kind == "grpc":
        pair = (certificates["server_key"].read_bytes(),)
        pair += (certificates["server"].read_bytes(),)
        opened, target = grpc_door(plain, grpc.ssl_server_credentials([pair])), GRPC
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates["server"], certificates["server_key"])
        opened, target = rest_door(plain, context), "https://{}:{}"
    with opened as port:
        assert cause(target.format(LOCAL, port), trusted) is Cause.WRONG_NAME
        named = Tls(ca=certificates["ca"], server_name="example.com")
        assert cause(target.format("localhost", port), named) is Cause.WRONG_NAME
        assert cause(target.format("localhost", port), other) is Cause.UNTRUSTED
        assert cause(target.format("localhost", port), trusted) is Cause.CLOSED


@pytest.mark.parametrize("tls", [None, Tls()])
def test_a_server_that_does_not_answer_is_silent_within_the_limit(tls):
    ended = threading.Event()
    with server(lambda connection: ended.wait(30)) as port:
        began_s = time.monotonic()
        assert cause(GRPC.format(LOCAL, port), tls, 0.4) is Cause.SILENT
        assert time.monotonic() - began_s < 2
        ended.set()


def test_behind_a_proxy_no_connection_of_our_own_is_opened(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    target = GRPC.format("server.invalid", 8500)
    assert cause(target) is Cause.UNKNOWN
    monkeypatch.setenv("no_proxy", "server.invalid")
    assert cause(target) is Cause.NO_HOST
    monkeypatch.delenv("no_proxy")
    assert cause(GRPC.format(LOCAL, closed_port())) is Cause.REFUSED  # on this machine


def test_several_addresses_in_a_target_are_not_diagnosed():
    target = f"ipv4:{LOCAL}:1,{LOCAL}:2"
    assert diagnose(SimpleNamespace(target=target, tls=None), 1) is Cause.UNKNOWN


def test_a_name_server_that_hangs_ends_with_the_limit(monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hanging.wait(30))

    def waited():
        began_s = time.monotonic()
        found = find_cause(Settings(target="host:1"), 0.1)
        return found, time.monotonic() - began_s

    async def run():
        began_s = time.monotonic()
        found = await find_cause_async(Settings(target="host:1"), 0.1)
        return found, time.monotonic() - began_s

    for found, took_s in (asyncio.run(run()), waited()):
        assert found is Cause.UNKNOWN and took_s < 5
    hanging.set()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "text"), Cause.REFUSED),
        (socket.gaierror(socket.EAI_NONAME, "text"), Cause.NO_HOST),
        (ConnectionResetError(), Cause.CLOSED),
        (BrokenPipeError(), Cause.CLOSED),
        (ssl.SSLEOFError(), Cause.CLOSED),
        (ssl.SSLError(1, "text"), Cause.HANDSHAKE),
        (ssl.SSLWantReadError(), Cause.UNKNOWN),
        (TimeoutError(), Cause.SILENT),
        (OSError(errno.EHOSTUNREACH, "text"), Cause.UNKNOWN),
    ],
)
def test_an_error_has_its_cause_by_its_class_and_that_of_its_causes(error, expected):
    assert cause_of(error) is expected
    for outer in (RuntimeError("connection refused"), OSError("ssl")):
        try:
            raise outer from error
        except Exception as chained:
            assert cause_of(chained) is expected
    group = OSError("All connection attempts failed")
    group.exceptions = (OSError(errno.EHOSTUNREACH, "text"), error)
    assert cause_of(group) is expected
