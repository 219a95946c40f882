"""Certificates for tests, made on the spot."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make(folder: Path) -> dict[str, Path]:
    """Makes two authorities; the first signs localhost's and a client's certificate."""
    ca, ca_key = _signed("test authority")
    other, _ = _signed("other authority")
    server, server_key = _signed("localhost", ca, ca_key)
    client, client_key = _signed("a client", ca, ca_key)
    made = {"ca": ca, "other": other, "server": server, "client": client}
    made |= {"server_key": server_key, "client_key": client_key}
    paths = {name: folder / f"{name}.pem" for name in made}
    for name, path in paths.items():
        path.write_bytes(_pem(made[name]))
    return paths


def _signed(name, ca=None, ca_key=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca is None, None), critical=True)
    )
    # Python 3.13 asks for these.
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    of = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        ca_key.public_key() if ca else key.public_key()
    )
    builder = builder.add_extension(own, False).add_extension(of, False)
    if not ca:
        usage = x509.KeyUsage(*[False] * 5, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    if ca:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(ca_key or key, hashes.SHA256()), key


def _pem(made) -> bytes:
    if isinstance(made, x509.Certificate):
        return made.public_bytes(serialization.Encoding.PEM)
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
