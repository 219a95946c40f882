"""Errors of a call: refused by the server, without a response, or not understood."""

from enum import Enum

from mmkeras.errors import one_line

# Status codes after which the same call may succeed.
TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


class Cause(Enum):
    """Cause of a failed connection, and what to do about it."""

    REFUSED = "refused the connection. Start the server there, or check host and port."
    NO_HOST = "cannot be found: there is no such host. Check its name."
    NO_TLS = "does not use TLS on this port. Leave out --tls; write http:// for REST."
    WRONG_NAME = "has a certificate for another name. Set that name by --server-name."
    UNTRUSTED = (
        "has a certificate from an authority that is not trusted. Give the "
        "certificate of that authority by --ca FILE."
    )
    HANDSHAKE = (
        "ended the TLS handshake. If it requires a client certificate, give --cert "
        "FILE and --key FILE; if it does not use TLS on this port, leave TLS out."
    )
    NO_GRPC = (
        "is not a gRPC port. If it is the REST port, write the target as "
        "http://HOST:PORT."
    )
    NO_REST = (
        "is not a REST port. If it is the gRPC port, leave http:// out of the target."
    )
    SILENT = "did not respond to a new connection. Check host, port and network."
    CLOSED = (
        "closed the connection without a response. If it uses TLS, give --tls "
        "(https:// for REST), and --cert and --key if it requires a client "
        "certificate; if it does not use TLS, leave TLS out."
    )
    UNKNOWN = "cannot be reached: {text}."

    @property
    def is_transient(self) -> bool:
        """Whether a retry may succeed."""
        return self in (Cause.REFUSED, Cause.SILENT, Cause.CLOSED, Cause.UNKNOWN)


class PredictError(RuntimeError):
    """Error of a call; its text is one line with the server, the cause and a remedy.

    Attributes:
        code: Name of the gRPC status code, for REST too, such as "NOT_FOUND".
        message: Text of the server, or the cause of a failed connection.
        is_from_server: Whether the server returned this error.
        is_transient: Whether the same call may succeed later.
        retry_after_s: Wait that the server requests, or None.
        hint: Remedy, or "".
        attempts: Number of times that the call was sent.

    Example:
        try:
            prediction = client.predict(text="a phrase")
        except PredictError as error:
            print(error.code, error.message)
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        target: str,
        is_from_server: bool = True,
        is_transient: bool = False,
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.code, self.message, self.target = code, message, target
        self.is_from_server, self.is_transient = is_from_server, is_transient
        self.retry_after_s = retry_after_s
        self.hint, self.attempts = "", 1

    def __str__(self) -> str:
        text = one_line(self.message)
        verb = f" returned {self.code}: " if self.is_from_server else " "
        times = f" (sent {self.attempts} times)" if self.attempts > 1 else ""
        end = "" if text.endswith((".", "?", "!")) or not self.hint else "."
        return f"{self.target}{verb}{text}{end}{times} {self.hint}".rstrip()


def client_error(
    code: str, message: str, target: str, *, is_transient: bool = False
) -> PredictError:
    """Returns an error that the client detects; `message` continues `target`."""
    return PredictError(
        code, message, target=target, is_from_server=False, is_transient=is_transient
    )


def connection_error(cause: Cause, target: str, text: str = "") -> PredictError:
    """Returns the error of a failed connection; `text` is shown for `Cause.UNKNOWN`."""
    message, is_transient = cause.value.format(text=text), cause.is_transient
    return client_error("UNAVAILABLE", message, target, is_transient=is_transient)


def timeout_error(target: str, timeout_s: float) -> PredictError:
    """Returns the error of a call without a response within `timeout_s`."""
    https = target.lower().startswith("https://")
    tls = " If the port does not use TLS, write http://." if https else ""
    message = (
        f"did not respond within {timeout_s:g} s (DEADLINE_EXCEEDED). Allow more time "
        f"(--timeout), or fewer rows per request (--batch).{tls}"
    )
    return client_error("DEADLINE_EXCEEDED", message, target)


def response_size_error(target: str, max_bytes: int) -> PredictError:
    """Returns the error of a response of more than `max_bytes`."""
    message = (
        f"sent a response of more than {max_bytes} bytes. Raise --max-message-bytes, "
        "or send fewer rows per request (--batch)."
    )
    return client_error("RESOURCE_EXHAUSTED", message, target)


def closed_error(target: str) -> PredictError:
    """Returns the error of a call by a closed client."""
    message = "did not get the call, or not all of it: the client is closed."
    return client_error("CANCELLED", message, target)


def response_error(target: str, reason: str) -> PredictError:
    """Returns the error of a response that TensorFlow Serving does not send."""
    message = f"sent a response unlike TensorFlow Serving's: {reason}."
    return client_error("INTERNAL", message, target)
