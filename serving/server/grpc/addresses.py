"""Addresses of the gRPC server: checked at start-up, opened after the models' load."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from mmkeras.errors import UserError
from serving.server.configs import SslConfig


def address(host: str, port: int) -> str:
    """Returns HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reserve_port(host: str, port: int) -> socket.socket:
    """Binds a socket that does not listen, so that connections are refused.

    Raises:
        UserError: The host is unknown, or the port cannot be opened.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise address_error(address(host, port), error.strerror) from None
    reason = None
    for family, *_, target in infos:
        try:
            sock = socket.socket(family)
        except OSError as error:  # no IPv6 on this machine
            reason = error.strerror
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(target)
            return sock
        except OSError as error:
            sock.close()
            reason = error.strerror
    raise address_error(address(host, port), reason)


def address_error(target: str, reason: object) -> UserError:
    """Returns the error of an address that cannot be opened."""
    return UserError(
        f"The address {target} cannot be opened: {reason}. "
        "Choose another --port, --host or --grpc-socket-path."
    )


def check_socket_path(path: str) -> str:
    """Returns the address of a UNIX socket; the socket of another server is replaced.

    Raises:
        UserError: The path cannot be a socket.
    """
    file = Path(path).absolute()
    try:
        if file.is_socket():
            file.unlink()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(file))
            file.unlink()
    except OSError as error:
        raise address_error(f"unix:{file}", error.strerror or error) from None
    return f"unix:{file}"


def build_credentials(ssl: SslConfig) -> grpc.ServerCredentials:
    """Builds the credentials; gRPC checks them only with an address.

    Raises:
        UserError: The keys cannot be used.
    """
    credentials = grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        ssl.custom_ca.encode() or None,
        ssl.client_verify,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        server.add_secure_port("127.0.0.1:0", credentials)
    except RuntimeError:
        raise UserError(
            "The keys of --ssl-config-file cannot be used. Check that server_key and "
            "server_cert are a pair in PEM format."
        ) from None
    server.start()  # a server that never started would keep its port
    server.stop(None)
    return credentials
