"""Causes of failed connections; test_transports.py has those of certificates."""

import asyncio
import errno
import socket
import ssl
import threading
import time
from types import SimpleNamespace

import pytest

from serving.client.diagnosis import cause_of, diagnose, find_cause, find_cause_async
from serving.client.errors import Cause
from serving.client.settings import Settings, Tls
from tests.serving.client.network import LOCAL, free_port, listen, respond

LIMIT_S = 5.0
GRPC, REST = "{}:{}", "http://{}:{}"
HTTP_ERROR = b"HTTP/1.1 400 Bad Request\r\n\r\n"
HTTP2_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"  # protocol version


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def diagnose_target(target, tls=None, limit_s=LIMIT_S):
    return diagnose(Settings(target=target, tls=tls), limit_s)


@pytest.mark.parametrize("target", [GRPC, REST])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64 + ".invalid"])
def test_a_name_without_an_address_is_no_host(target, host):
    assert diagnose_target(target.format(host, 1)) is Cause.NO_HOST


@pytest.mark.parametrize(
    ("content", "by_grpc", "by_rest"),
    [
        (HTTP_ERROR, Cause.NO_GRPC, Cause.CLOSED),
        (HTTP2_SETTINGS, Cause.CLOSED, Cause.NO_REST),
        (b"SSH-2.0-OpenSSH\r\n", Cause.NO_GRPC, Cause.CLOSED),
        (TLS_ALERT, Cause.CLOSED, Cause.CLOSED),
        (b"", Cause.CLOSED, Cause.CLOSED),
    ],
    ids=["http", "http/2", "ssh", "alert", "nothing"],
)
def test_the_first_bytes_show_the_protocol(content, by_grpc, by_rest):
    with listen(respond(content)) as port:
        assert diagnose_target(GRPC.format(LOCAL, port)) is by_grpc
        assert diagnose_target(REST.format(LOCAL, port)) is by_rest


@pytest.mark.parametrize("content", [HTTP_ERROR, HTTP2_SETTINGS, b"SSH-2.0\r\n"])
def test_other_bytes_after_a_handshake_are_no_tls(content):
    with listen(respond(content)) as port:
        assert diagnose_target(GRPC.format(LOCAL, port), Tls()) is Cause.NO_TLS
        assert diagnose_target(f"https://{LOCAL}:{port}") is Cause.NO_TLS


def test_a_handshake_that_the_server_ends_is_not_a_server_without_tls():
    with listen(respond(TLS_ALERT)) as port:
        assert diagnose_target(GRPC.format(LOCAL, port), Tls()) is Cause.HANDSHAKE
    with listen(lambda connection: None) as port:
        assert diagnose_target(GRPC.format(LOCAL, port), Tls()) is Cause.CLOSED


@pytest.mark.parametrize("tls", [None, Tls()])
def test_a_server_that_sends_nothing_is_silent_within_the_limit(tls):
    end = threading.Event()
    with listen(lambda connection: end.wait(30)) as port:
        start_s = time.monotonic()
        assert diagnose_target(GRPC.format(LOCAL, port), tls, 0.4) is Cause.SILENT
        assert time.monotonic() - start_s < 2
        end.set()


def test_behind_a_proxy_there_is_no_diagnosis(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    target = GRPC.format("server.invalid", 8500)
    assert diagnose_target(target) is Cause.UNKNOWN
    monkeypatch.setenv("no_proxy", "server.invalid")
    assert diagnose_target(target) is Cause.NO_HOST
    monkeypatch.delenv("no_proxy")  # which this machine does not need
    assert diagnose_target(GRPC.format(LOCAL, free_port())) is Cause.REFUSED


def test_a_target_of_several_addresses_is_not_diagnosed():
    target = f"ipv4:{LOCAL}:1,{LOCAL}:2"
    assert diagnose(SimpleNamespace(target=target, tls=None), 1) is Cause.UNKNOWN


def test_a_name_lookup_that_hangs_ends_with_the_limit_and_blocks_no_loop(monkeypatch):
    async def count_ticks():
        task, ticks = asyncio.ensure_future(find_cause_async(settings, 0.6)), 0
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return task.result(), ticks

    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait(30))
    settings, start_s = Settings(target="host:1"), time.monotonic()
    cause, ticks = asyncio.run(count_ticks())
    assert cause is find_cause(settings, 0.1) is Cause.UNKNOWN and ticks > 10
    assert time.monotonic() - start_s < 5
    end.set()


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
def test_the_classes_of_an_error_and_of_its_causes_show_the_cause(error, expected):
    assert cause_of(error) is expected
    for outer in (RuntimeError("connection refused"), OSError("ssl")):
        try:
            raise outer from error
        except Exception as chain:
            assert cause_of(chain) is expected
    group = OSError("All connection attempts failed")
    group.exceptions = (OSError(errno.EHOSTUNREACH, "text"), error)
    assert cause_of(group) is expected
