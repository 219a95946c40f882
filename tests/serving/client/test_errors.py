"""Errors are one line that says what to do."""

import pytest

from serving.client.errors import PredictError, not_understood, too_late, unreached

AT = {"target": "localhost:8500"}


def test_an_answer_is_named_with_its_code_and_on_one_line():
    error = PredictError("NOT_FOUND", "Servable not found\nfor  request", **AT)
    expected = "localhost:8500 answered NOT_FOUND: Servable not found for request"
    assert str(error) == expected
    error.hint, error.attempts = "Did you mean 'b'?", 3
    assert str(error) == f"{expected}. (sent 3 times) Did you mean 'b'?"


# The texts are those of grpcio 1.65 and httpx 0.28.
@pytest.mark.parametrize(
    ("text", "meaning", "is_transient"),
    [
        ("connect: Connection refused (111)", "refused the connection", True),
        ("[Errno 111] Connection refused", "refused the connection", True),
        ("DNS resolution failed for a:1: C-ares status", "no such host", False),
        ("[Errno -2] Name or service not known", "no such host", False),
        ("Ssl handshake failed (X): WRONG_VERSION_NUMBER", "speaks no TLS", False),
        ("Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "by --ca FILE", False),
        ("Peer name 127.0.0.1 is not in peer certificate", "--server-name", False),
        (
            "certificate verify failed: IP address mismatch, certificate is not",
            "--server-name",
            False,
        ),
        ("Failed parsing HTTP/2", "is no gRPC port", False),
        ("illegal request line", "is no REST port", False),
        ("connect: Timeout occurred: FD Shutdown", "Check host, port and n", True),
        ("Socket closed", "(--tls, https://", True),
        ("Connection reset by peer", "if it speaks none, leave TLS out", True),
        ("Ssl handshake failed", "no TLS on this port, leave TLS out", False),
        ("Server disconnected without sending a response.", "(--tls, https://", True),
        ("no route to host", "cannot be reached: no route to host.", True),
    ],
)
def test_a_failed_connection_says_what_to_do(text, meaning, is_transient):
    error = unreached(text, "localhost:8500")
    assert error.code == "UNAVAILABLE" and not error.is_answer
    assert str(error).startswith("localhost:8500 ") and meaning in str(error)
    assert error.is_transient == is_transient


def test_silence_and_nonsense_are_not_asked_again():
    late, nonsense = too_late("t", 0.5), not_understood("t", "no output 'label'")
    assert not late.is_transient and not nonsense.is_transient
    assert str(late).startswith("t gave no answer within 0.5 s (DEADLINE_EXCEEDED).")
    assert str(too_late("https://t", 1)).endswith("no TLS; then write http://.")
    assert "TLS" not in str(late)
    expected = "t gave an answer that is none of TensorFlow Serving's: no output "
    assert str(nonsense) == f"{expected}'label'."
