"""Errors are one line that says what to do."""

import pytest

from serving.client.errors import (
    Cause,
    PredictError,
    not_understood,
    too_late,
    unreached,
)

AT = {"target": "localhost:8500"}


def test_an_answer_is_named_with_its_code_and_on_one_line():
    error = PredictError("NOT_FOUND", "Servable not found\nfor  request", **AT)
    expected = "localhost:8500 answered NOT_FOUND: Servable not found for request"
    assert str(error) == expected
    error.hint, error.attempts = "Did you mean 'b'?", 3
    assert str(error) == f"{expected}. (sent 3 times) Did you mean 'b'?"


@pytest.mark.parametrize(
    ("cause", "meaning", "is_transient"),
    [
        (Cause.REFUSED, "refused the connection", True),
        (Cause.NO_HOST, "no such host", False),
        (Cause.NO_TLS, "speaks no TLS", False),
        (Cause.UNTRUSTED, "by --ca FILE", False),
        (Cause.WRONG_NAME, "--server-name", False),
        (Cause.HANDSHAKE, "no TLS on this port, leave TLS out", False),
        (Cause.NO_GRPC, "is no gRPC port", False),
        (Cause.NO_REST, "is no REST port", False),
        (Cause.SILENT, "Check host, port and n", True),
        (Cause.CLOSED, "(--tls, https://", True),
        (Cause.UNKNOWN, "cannot be reached: no {route} to host.", True),
    ],
)
def test_a_failed_connection_says_what_to_do(cause, meaning, is_transient):
    error = unreached(cause, "localhost:8500", "no {route} to host")
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
