"""What a server may answer instead of an answer, and what to do when it is silent."""

# Of what is not the server's word: (a part of the text that the network libraries
# give, in small letters; what it means; whether the same call may be sent again).
_REASONS = (
    (
        ("connection refused", "connectionrefused"),
        "refused the connection. Start the server there, or check host and port.",
        True,
    ),
    (
        ("name or service not known", "dns resolution failed", "name resolution")
        + ("domain name not found",),
        "cannot be found: there is no such host. Check its name.",
        False,
    ),
    (
        ("wrong_version_number", "packet_length_too_long", "http_request"),
        "speaks no TLS on this port. Leave TLS out (no --tls, http:// for REST).",
        False,
    ),
    (
        ("not in peer certificate", "hostname mismatch", "ip address mismatch")
        + ("hostname verification check failed",),
        "shows a certificate for another name. Give that name by --server-name.",
        False,
    ),
    (
        ("certificate_verify_failed", "certificate verify failed"),
        "shows a certificate that nobody trusted here has signed. Give the "
        "certificate of its authority by --ca FILE.",
        False,
    ),
    (
        ("certificate_required", "certificate required", "handshake"),
        "ended the TLS handshake. If it asks for a certificate, give one by --cert "
        "FILE --key FILE; if it speaks no TLS on this port, leave TLS out.",
        False,
    ),
    (
        ("failed parsing http/2", "http1.x", "http/1"),
        "is no gRPC port. If it is the REST port, write the target as http://HOST:PORT.",
        False,
    ),
    (
        ("illegal request line",),
        "is no REST port. If it is the gRPC port, leave http:// out of the target.",
        False,
    ),
    (
        ("timeout occurred", "fd shutdown", "before receiving settings"),
        "did not answer as a connection was opened. Check host, port and network.",
        True,
    ),
    (
        ("socket closed", "connection reset", "disconnected", "broken pipe")
        + ("readerror", "writeerror"),
        "closed the connection without an answer. If it speaks TLS, say so (--tls, "
        "https:// for REST), with --cert and --key if it asks for a certificate; "
        "if it speaks none, leave TLS out.",
        True,
    ),
)
TRANSIENT = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


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


def unreached(text: str, target: str) -> PredictError:
    """Returns what a failed connection means, from what a network library says."""
    lowered = text.lower()
    known = (
        (meaning, is_transient)
        for parts, meaning, is_transient in _REASONS
        if any(part in lowered for part in parts)
    )
    unknown = (f"cannot be reached: {text}.", True)
    meaning, is_transient = next(known, unknown)
    return PredictError(
        "UNAVAILABLE",
        meaning,
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
