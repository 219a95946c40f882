"""All settings of a client, with their units; what is wrong is said when it is made."""

import os
import re
import ssl
from dataclasses import dataclass, field

from mmkeras.config import validation
from mmkeras.errors import UserError

GRPC, REST = "grpc", "rest"
_MIB = 2**20
_LONGEST_S = 86_400
_HOST_PORT = re.compile(r"(?:dns:///)?(\[[0-9a-fA-F:.%]+\]|[^\[\]:/\s]+):(\d{1,5})")
_URL = re.compile(
    r"(https?)://(?:\[[0-9a-f:.%]+\]|[^\[\]:/?#@\s]+)(?::(\d{1,5}))?(/[^?#\s]*)?",
    re.IGNORECASE,
)

FilePath = str | os.PathLike


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How to speak TLS; all files are PEM.

    Attributes:
        ca: Certificates of the authorities to trust; None: those of this system.
        cert: Certificate of the client, for mutual TLS.
        key: Its private key.
        server_name: Name that the server's certificate must have; "": the host's.
    """

    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: str = ""

    def __post_init__(self):
        if (self.cert is None) != (self.key is None):
            raise UserError("A certificate and its key go together: --cert and --key.")
        self.context()  # files that cannot be used are said before any call

    def context(self) -> ssl.SSLContext:
        """Returns Python's own settings of TLS with these files.

        Raises:
            UserError: A file is missing, or holds no certificate or key.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca and os.fspath(self.ca))
        except (OSError, ValueError) as error:
            raise _bad_file("ca", self.ca, error) from None
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ValueError) as error:
                both = f"{self.cert}' with key '{self.key}"
                raise _bad_file("cert", both, error) from None
        return context


def _bad_file(flag, path, error):
    why = getattr(error, "strerror", None) or error
    return UserError(f"--{flag} '{path}' cannot be used: {why}. It must be a PEM file.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is read of media.

    Attributes:
        max_file_mb: Largest file that is read, in megabytes.
        max_megapixels: Largest picture that is sent.
        clip_s: Seconds sent of a sound that must be transcoded; no less than the
            model's own audio.clip_s (10 by default), else it hears less than it could.
    """

    max_file_mb: int = 64
    max_megapixels: int = 50
    clip_s: float = 60.0

    def __post_init__(self):
        validation(self.max_file_mb >= 1, "max_file_mb", self.max_file_mb, "at least 1")
        validation(
            1 <= self.max_megapixels <= 178,
            "max_megapixels",
            self.max_megapixels,
            "from 1 to 178",
        )
        validation(self.clip_s >= 1, "clip_s", self.clip_s, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Whom to ask, and how.

    Attributes:
        target: HOST:PORT or dns:///NAME:PORT of gRPC, or http://HOST:PORT or
            https://... of REST.
        model: Name of the model.
        version: Version to ask; None: the one that the server takes.
        label: Label of a version, instead of its number.
        timeout_s: Deadline of a call of `predict` or `predict_rows`, with the model's
            description, files that are read and all that is sent again; in `stream`
            of each request, without the reading.
        retries: How often a request is sent again where that is safe.
        tls: How to speak TLS; None: not at all, but for https:// by the defaults.
        max_message_bytes: Largest request that is sent, and answer that is taken.
        gzip: Whether gRPC packs what it sends; media hardly shrink.
        limits: What is read of media.
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
        validation(bool(self.model), "model", repr(self.model), "a name")
        if self.version is not None:
            validation(
                0 <= self.version < 2**63, "version", self.version, "a number, 0 or up"
            )
        if self.version is not None and self.label is not None:
            raise UserError("Give a version or a label, not both.")
        if self.label is not None:
            validation(bool(self.label), "label", repr(self.label), "a label")
        validation(
            0 < self.timeout_s <= _LONGEST_S,
            "timeout",
            self.timeout_s,
            f"above 0 and at most {_LONGEST_S} (seconds)",
        )
        validation(self.retries >= 0, "retries", self.retries, "0 or more")
        validation(
            4096 <= self.max_message_bytes < 2**31,
            "max_message_bytes",
            self.max_message_bytes,
            "from 4096 to 2147483647, which is the most that protobuf takes",
        )
        if self.gzip and self.door == REST:
            raise UserError("gzip is for gRPC only; leave it out, or give HOST:PORT.")

    @property
    def door(self) -> str:
        return REST if _is_url(self.target) else GRPC


def _is_url(target: str) -> bool:
    return "://" in target and not target.startswith("dns:///")


def _check_target(target: str, tls: Tls | None) -> None:
    if _is_url(target):
        found = _URL.fullmatch(target)
        if not found or not 0 < int(found[2] or 1) < 65536:
            raise UserError(
                f"The target '{target}' must be HOST:PORT for gRPC, or "
                "http://HOST:PORT or https://HOST:PORT for REST."
            )
        if found[1].lower() == "http" and tls:
            raise UserError(f"The target '{target}' has no TLS; write https://.")
        return
    found = _HOST_PORT.fullmatch(target)
    if not found or not 0 < int(found[2]) < 65536:
        raise UserError(
            f"The target '{target}' must be HOST:PORT, as localhost:8500; for REST "
            "http://HOST:PORT, as http://localhost:8501."
        )
