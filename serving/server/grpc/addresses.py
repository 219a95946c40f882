"""Addresses of the gRPC server: checked at start-up, opened after the models' load."""

import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from mmkeras.errors import UserError
from serving.server.configs import SslConfig

_MAX_PATH_BYTES = 107  # of sockaddr_un


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
        raise UserError(
            f"--host '{host}' is no address: {error.strerror}. Use an address of "
            "this machine, as 127.0.0.1."
        ) from None
    for family, kind, protocol, _, target in infos:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:  # no IPv6 on this machine
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(target)
            return sock
        except OSError:
            sock.close()
    raise port_error(address(host, port))


def port_error(target: str) -> UserError:
    """Returns the error of an address that cannot be opened."""
    return UserError(
        f"The address {target} cannot be opened: another program has it, or it is not "
        "one of this machine. Choose another --port, --host or --grpc-socket-path."
    )


def check_socket_path(path: str) -> str:
    """Returns the address of a UNIX socket, which a dead server may have left there.

    Raises:
        UserError: The path is in use, or cannot be a socket.
    """
    file, reason = Path(path).absolute(), ""
    if len(bytes(file)) > _MAX_PATH_BYTES:
        reason = f"it has more than {_MAX_PATH_BYTES} bytes"
    elif not file.parent.is_dir():
        reason = f"the folder '{file.parent}' does not exist"
    elif file.is_symlink() or file.exists():
        if not stat.S_ISSOCK(file.lstat().st_mode):
            reason = "a file that is no socket is there"
        elif _is_served(file):
            reason = "another program serves it"
    if reason:
        raise UserError(
            f"--grpc-socket-path '{path}' cannot be used: {reason}. Use another path."
        )
    return f"unix:{file}"


def _is_served(file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(file))
        except ConnectionRefusedError:
            return False
        except OSError:  # no permission
            return True
    return True


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
