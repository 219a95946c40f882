"""Certificates of test authorities, of a server and of a client, as PEM files."""

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write_certificates(folder: Path) -> dict[str, Path]:
    """Writes two authorities; "ca" signs the certificates of localhost and a client."""
    ca, ca_key = _sign("test authority")
    other, _ = _sign("other authority")
    server, server_key = _sign("localhost", ca, ca_key)
    client, client_key = _sign("a client", ca, ca_key)
    objects = {"ca": ca, "other": other, "server": server, "client": client}
    objects |= {"server_key": server_key, "client_key": client_key}
    paths = {name: folder / f"{name}.pem" for name in objects}
    for name, path in paths.items():
        path.write_bytes(_pem(objects[name]))
    return paths


def grpc_credentials(paths: dict[str, Path], mutual: bool = False):
    """Returns the server's credentials; `mutual` requires a client certificate."""
    pair = (paths["server_key"].read_bytes(), paths["server"].read_bytes())
    ca = paths["ca"].read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], ca, mutual)


def ssl_context(paths: dict[str, Path], mutual: bool = False) -> ssl.SSLContext:
    """Returns the server's TLS context; `mutual` requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths["server"], paths["server_key"])
    if mutual:
        context.load_verify_locations(paths["ca"])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _sign(name, ca=None, ca_key=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    signer = ca_key or key
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca is None, None), critical=True)
        # Python 3.13 requires these two.
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
        )
        .add_extension(authority, False)
    )
    if ca:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    else:
        usage = x509.KeyUsage(*[False] * 5, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(signer, hashes.SHA256()), key


def _pem(item) -> bytes:
    if isinstance(item, x509.Certificate):
        return item.public_bytes(serialization.Encoding.PEM)
    return item.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
