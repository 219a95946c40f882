"""Diagnosis of a failed connection with the standard library.

The messages of gRPC, httpx and OpenSSL change with each release. So a second connection
is opened here: name, TCP, TLS, and the first bytes of the protocol.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from serving.client.errors import Cause
from serving.client.settings import Settings, Tls

LIMIT_S = 2.0  # a server that does not connect within it is silent
# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL.
_NAME_CODES = (62, 64)
_PROXIES = {"grpc", "http", "https", "all"}
_ALERT, _HANDSHAKE = b"\x15", b"\x16"  # first byte of a record of TLS, RFC 8446
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # empty frame of HTTP/2, RFC 9113
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def find_cause(settings: Settings, limit_s: float) -> Cause:
    """Returns the cause of a failed connection after at most `limit_s` or `LIMIT_S`."""
    result = _start(settings, limit_s)
    wait([result], min(limit_s, LIMIT_S))
    return result.result() if result.done() else Cause.UNKNOWN


async def find_cause_async(settings: Settings, limit_s: float) -> Cause:
    """As `find_cause`, without blocking the event loop."""
    result = asyncio.wrap_future(_start(settings, limit_s))
    try:
        await asyncio.wait([result], timeout=min(limit_s, LIMIT_S))
        return result.result() if result.done() else Cause.UNKNOWN
    finally:
        result.cancel()  # the thread may outlive the loop


def _start(settings: Settings, limit_s: float) -> "Future[Cause]":
    """Diagnoses in a daemon thread, because a DNS lookup has no time limit."""
    result: Future[Cause] = Future()
    result.set_running_or_notify_cancel()

    def run():
        try:
            cause = diagnose(settings, limit_s)
        except Exception:  # such as a missing certificate file
            cause = Cause.UNKNOWN
        result.set_result(cause)

    threading.Thread(target=run, daemon=True).start()
    return result


def diagnose(settings: Settings, limit_s: float) -> Cause:
    """Returns the cause of a failed connection.

    Returns `Cause.CLOSED` if the server responds correctly now: it closed the
    connection of the call. Returns `Cause.UNKNOWN` if calls go through a proxy.
    """
    peer = _peer(settings)
    if peer is None or _has_proxy(peer.host):
        return Cause.UNKNOWN
    deadline_s = time.monotonic() + min(limit_s, LIMIT_S)
    try:
        with _connection(peer, deadline_s) as connection:
            if peer.context is None:
                return _greeting(connection, peer)
            return _tls(connection, peer, deadline_s)
    except OSError as error:
        return cause_of(error)
    except UnicodeError:  # the name is too long for DNS
        return Cause.NO_HOST


def _has_proxy(host: str) -> bool:
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return False
    return bool(_PROXIES & getproxies().keys()) and not proxy_bypass(host)


def cause_of(error: BaseException) -> Cause:
    """Returns the cause that follows from the class of an error or of its causes."""
    for link in _chain(error):
        if isinstance(link, socket.gaierror):
            return Cause.NO_HOST
        if isinstance(link, ssl.SSLCertVerificationError):
            is_name = link.verify_code in _NAME_CODES
            return Cause.WRONG_NAME if is_name else Cause.UNTRUSTED
        if isinstance(link, ConnectionRefusedError):
            return Cause.REFUSED
        if isinstance(link, ConnectionError | ssl.SSLEOFError):
            return Cause.CLOSED
        is_wait = isinstance(link, ssl.SSLWantReadError | ssl.SSLWantWriteError)
        if isinstance(link, ssl.SSLError) and not is_wait:
            return Cause.HANDSHAKE
        if isinstance(link, TimeoutError):
            return Cause.SILENT
    return Cause.UNKNOWN


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        for member in getattr(error, "exceptions", ()):  # one per address
            yield from _chain(member)
        error = error.__cause__ or error.__context__


@dataclass(frozen=True, kw_only=True)
class _Peer:
    """Address and protocol of a server."""

    host: str
    port: int
    is_rest: bool
    context: ssl.SSLContext | None  # None: no TLS
    server_name: str  # in the certificate


def _peer(settings: Settings) -> _Peer | None:
    target = settings.target.removeprefix("dns:///")
    is_rest = "://" in target
    url = urlsplit(target if is_rest else f"//{target}")
    try:
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return None
    if not url.hostname or not port:
        return None
    tls = settings.tls or (Tls() if url.scheme == "https" else None)
    context = tls.context() if tls else None
    if context:
        context.set_alpn_protocols(["http/1.1" if is_rest else "h2"])
        if not is_rest:  # gRPC is less strict than Python 3.13
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return _Peer(
        host=url.hostname,
        port=port,
        is_rest=is_rest,
        context=context,
        server_name=(tls.server_name if tls else "") or url.hostname,
    )


def _connection(peer: _Peer, deadline_s: float) -> socket.socket:
    remaining_s = max(deadline_s - time.monotonic(), 0.001)
    return socket.create_connection((peer.host, peer.port), remaining_s)


def _greeting(connection: socket.socket, peer: _Peer) -> Cause:
    """Returns the cause that follows from the server's first bytes."""
    connection.sendall(_REQUEST if peer.is_rest else _PREFACE)
    content = connection.recv(64)
    is_http2 = content[3:5] == _SETTINGS[3:5]
    if peer.is_rest:
        return Cause.NO_REST if is_http2 else Cause.CLOSED
    is_grpc = is_http2 or content[:1] in (b"", _ALERT)
    return Cause.CLOSED if is_grpc else Cause.NO_GRPC


def _tls(connection: socket.socket, peer: _Peer, deadline_s: float) -> Cause:
    """Returns the cause that follows from the TLS handshake, or the first bytes."""
    connection.settimeout(max(deadline_s - time.monotonic(), 0.001) / 2)
    try:
        secure = peer.context.wrap_socket(connection, server_hostname=peer.server_name)
    except ssl.SSLCertVerificationError:
        raise
    except OSError:
        if _is_plain(peer, deadline_s):
            return Cause.NO_TLS
        raise
    with secure:
        try:
            return _greeting(secure, peer)
        except OSError:  # a TLS alert too, as a reset may overtake it
            return Cause.CLOSED


def _is_plain(peer: _Peer, deadline_s: float) -> bool:
    """Returns whether the server responds to a TLS handshake without TLS."""
    hello = ssl.MemoryBIO()
    name = peer.server_name
    session = peer.context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        session.do_handshake()
    with _connection(peer, deadline_s) as connection:
        try:
            connection.sendall(hello.read())
            return connection.recv(1) not in (b"", _ALERT, _HANDSHAKE)
        except OSError:
            return False
