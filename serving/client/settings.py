"""Settings of a client, validated when they are created."""

import os
import re
import ssl
from dataclasses import dataclass, field

from mmkeras.config.validation import check, check_range
from mmkeras.errors import UserError

GRPC, REST = "grpc", "rest"
_MIB = 2**20
_MAX_TIMEOUT_S = 86_400
_HOST_PORT = re.compile(r"(?:dns:///)?(\[[0-9a-fA-F:.%]+\]|[^\[\]:/\s]+):(\d{1,5})")
_URL = re.compile(
    r"(https?)://(?:\[[0-9a-f:.%]+\]|[^\[\]:/?#@\s]+)(?::(\d{1,5}))?(/[^?#\s]*)?",
    re.IGNORECASE,
)

FilePath = str | os.PathLike


@dataclass(frozen=True, kw_only=True)
class Tls:
    """TLS settings; all files are PEM.

    Attributes:
        ca: Certificates of the trusted authorities; None: those of this system.
        cert: Certificate of the client, for mutual TLS.
        key: Private key of `cert`.
        server_name: Name that the server's certificate must have; "": the host's.

    Example:
        Client("localhost:8500", tls=Tls(ca="ca.pem"))
    """

    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str = ""

    def __post_init__(self):
        if (self.cert is None) != (self.key is None):
            raise UserError("A certificate and its key go together: --cert and --key.")
        self.context()  # raises an error before any call

    def context(self) -> ssl.SSLContext:
        """Returns Python's TLS context with these files.

        Raises:
            UserError: A file is missing, or holds no certificate or key.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca and os.fspath(self.ca))
        except (OSError, ValueError) as error:
            raise _file_error("ca", self.ca, error) from None
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ValueError) as error:
                paths = f"{self.cert}' with key '{self.key}"
                raise _file_error("cert", paths, error) from None
        return context


def _file_error(flag, path, error):
    reason = getattr(error, "strerror", None) or error
    text = f"--{flag} '{path}' cannot be used: {reason}. It must be a PEM file."
    return UserError(text)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of files.

    Attributes:
        max_file_mb: Largest file, megabytes.
        max_megapixels: Largest image.
        clip_s: Seconds of audio that are sent after transcoding; at least the model's
            own audio.clip_s (10 by default), or the model misses the rest.
    """

    max_file_mb: int = 64
    max_megapixels: int = 50
    clip_s: float = 60.0

    def __post_init__(self):
        check_range(self, "max_file_mb", "clip_s", ge=1)
        check_range(self, "max_megapixels", ge=1, le=178)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Address of a server, model, deadline and limits.

    Attributes:
        target: HOST:PORT or dns:///NAME:PORT for gRPC, http://HOST:PORT or
            https://... for REST.
        version: Model version; None: the server's choice.
        label: Label of a version, instead of its number.
        timeout_s: Deadline of `predict` and `predict_rows`, including the model's
            description, the reading of files and all retries; in `stream` of each
            request, without the reading.
        retries: Limit of retries per call.
        tls: TLS settings; None: no TLS, and the defaults for https://.
        max_message_bytes: Limit of requests and responses.
        gzip: Whether gRPC compresses requests; media hardly shrink.
    """

    target: str
    model: str = "mmkeras"
    version: int | None = None
    label: str | None = None
    timeout_s: float = 30.0
    retries: int = 10
    tls: Tls | None = None
    max_message_bytes: int = 64 * _MIB
    gzip: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        _check_target(self.target, self.tls)
        check(bool(self.model), "model", repr(self.model), "a name")
        if self.version is not None:
            check_range(self, "version", ge=0, lt=2**63)
        if self.version is not None and self.label is not None:
            raise UserError("Give a version or a label, not both.")
        if self.label is not None:
            check(bool(self.label), "label", repr(self.label), "a label")
        check_range(self, "timeout_s", gt=0, le=_MAX_TIMEOUT_S)
        check_range(self, "retries", ge=0)
        # protobuf allows no larger message.
        check_range(self, "max_message_bytes", ge=4096, le=2**31 - 1)
        if self.gzip and self.transport == REST:
            raise UserError("gzip is for gRPC only; leave it out, or give HOST:PORT.")

    @property
    def transport(self) -> str:
        """`GRPC` or `REST`."""
        return REST if _is_url(self.target) else GRPC


def _is_url(target: str) -> bool:
    return "://" in target and not target.startswith("dns:///")


def _check_target(target: str, tls: Tls | None) -> None:
    if _is_url(target):
        match = _URL.fullmatch(target)
        if not match or not 0 < int(match[2] or 1) < 65536:
            raise UserError(
                f"The target '{target}' must be HOST:PORT for gRPC, or "
                "http://HOST:PORT or https://HOST:PORT for REST."
            )
        if match[1].lower() == "http" and tls:
            raise UserError(f"The target '{target}' has no TLS; write https://.")
        return
    match = _HOST_PORT.fullmatch(target)
    if not match or not 0 < int(match[2]) < 65536:
        raise UserError(
            f"The target '{target}' must be HOST:PORT, as localhost:8500; for REST "
            "http://HOST:PORT, as http://localhost:8501."
        )
