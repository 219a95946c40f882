"""What a server may answer instead of an answer, and what to do when it is silent."""

from enum import Enum

# Status codes of a server that may answer the same call the next time.
TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


class Cause(Enum):
    """Cause of a failed connection: its meaning, and whether it is transient."""

    REFUSED = (
        "refused the connection. Start the server there, or check host and port.",
        True,
    )
    NO_HOST = (
        "cannot be found: there is no such host. Check its name.",
        False,
    )
    NO_TLS = (
        "speaks no TLS on this port. Leave TLS out (no --tls, http:// for REST).",
        False,
    )
    WRONG_NAME = (
        "shows a certificate for another name. Give that name by --server-name.",
        False,
    )
    UNTRUSTED = (
        "shows a certificate that nobody trusted here has signed. Give the "
        "certificate of its authority by --ca FILE.",
        False,
    )
    HANDSHAKE = (
        "ended the TLS handshake. If it asks for a certificate, give one by --cert "
        "FILE --key FILE; if it speaks no TLS on this port, leave TLS out.",
        False,
    )
    NO_GRPC = (
        "is no gRPC port. If it is the REST port, write the target as http://HOST:PORT.",
        False,
    )
    NO_REST = (
        "is no REST port. If it is the gRPC port, leave http:// out of the target.",
        False,
    )
    SILENT = (
        "did not answer as a connection was opened. Check host, port and network.",
        True,
    )
    CLOSED = (
        "closed the connection without an answer. If it speaks TLS, say so (--tls, "
        "https:// for REST), with --cert and --key if it asks for a certificate; "
        "if it speaks none, leave TLS out.",
        True,
    )
    UNKNOWN = ("cannot be reached: {text}.", True)


class PredictError(RuntimeError):
    """A call that the server refused, or did not answer; its text is one line.

    Attributes:
        code: Name of gRPC's status code, of REST too: "NOT_FOUND".
        message: The server's own words, or what is wrong with the connection.
        target: The server.
        is_answer: Whether the server said so itself.
        is_transient: Whether the same call, sent again, may well be answered.
        retry_after_s: How long the server wants to be left alone; None: not said.
        hint: What to do, where it can be known.
        attempts: How many times the call was sent.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        target: str,
        is_answer: bool = True,
        is_transient: bool = False,
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.code, self.message, self.target = code, message, target
        self.is_answer, self.is_transient = is_answer, is_transient
        self.retry_after_s = retry_after_s
        self.hint, self.attempts = "", 1

    def __str__(self) -> str:
        words = " ".join(self.message.split())
        verb = f" answered {self.code}: " if self.is_answer else " "
        times = f" (sent {self.attempts} times)" if self.attempts > 1 else ""
        end = "" if words.endswith((".", "?", "!")) or not self.hint else "."
        return f"{self.target}{verb}{words}{end}{times} {self.hint}".rstrip()


def unreached(cause: Cause, target: str, text: str = "") -> PredictError:
    """Returns the error of a failed connection.

    Args:
        cause: Cause of the failure.
        target: The server.
        text: Message of the network library, shown if the cause is unknown.
    """
    meaning, is_transient = cause.value
    return PredictError(
        "UNAVAILABLE",
        meaning.format(text=text),
        target=target,
        is_answer=False,
        is_transient=is_transient,
    )


def too_late(target: str, timeout_s: float) -> PredictError:
    """Returns the error of a call that was not answered in time."""
    https = target.lower().startswith("https://")
    tls = " The port may have no TLS; then write http://." if https else ""
    return PredictError(
        "DEADLINE_EXCEEDED",
        f"gave no answer within {timeout_s:g} s (DEADLINE_EXCEEDED). Allow more time "
        f"(--timeout), or fewer rows in a request (--batch).{tls}",
        target=target,
        is_answer=False,
    )


def too_large(target: str, largest: int) -> PredictError:
    """Returns the error of an answer that is larger than what is taken."""
    return PredictError(
        "RESOURCE_EXHAUSTED",
        f"gave an answer of more than {largest} bytes. Raise --max-message-bytes, or "
        "put fewer rows into a request (--batch).",
        target=target,
        is_answer=False,
    )


def closed(target: str) -> PredictError:
    """Returns the error of a call by a client that is closed."""
    return PredictError(
        "CANCELLED",
        "was not asked, or not to the end: the client is closed.",
        target=target,
        is_answer=False,
    )


def not_understood(target: str, why: str) -> PredictError:
    """Returns the error of an answer that is none of TensorFlow Serving's."""
    return PredictError(
        "INTERNAL",
        f"gave an answer that is none of TensorFlow Serving's: {why}.",
        target=target,
        is_answer=False,
    )
