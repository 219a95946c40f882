"""Texts of errors: one line with the server, the code and a remedy."""

import pytest

from serving.client.errors import (
    Cause,
    PredictError,
    connection_error,
    response_error,
    timeout_error,
)


def test_an_error_of_the_server_is_one_line_with_its_code_and_hint():
    error = PredictError("NOT_FOUND", "Servable not found\nfor  request", target="t:1")
    expected = "t:1 returned NOT_FOUND: Servable not found for request"
    assert str(error) == expected
    error.hint, error.attempts = "Did you mean 'b'?", 3
    assert str(error) == f"{expected}. (sent 3 times) Did you mean 'b'?"


@pytest.mark.parametrize("cause", Cause)
def test_a_failed_connection_is_one_line_about_the_server(cause):
    error = connection_error(cause, "localhost:8500", "no {route} to host")
    assert error.code == "UNAVAILABLE" and not error.is_from_server
    assert str(error).startswith("localhost:8500 ") and str(error).endswith(".")
    transient = {Cause.REFUSED, Cause.SILENT, Cause.CLOSED, Cause.UNKNOWN}
    assert error.is_transient == (cause in transient)
    assert ("no {route} to host" in str(error)) == (cause is Cause.UNKNOWN)


def test_timeouts_and_malformed_responses_are_not_transient():
    late, malformed = timeout_error("t", 0.5), response_error("t", "no output 'label'")
    assert not late.is_transient and not malformed.is_transient
    assert "within 0.5 s" in str(late) and "--timeout" in str(late)
    assert "http://" in str(timeout_error("https://t", 1)) and "TLS" not in str(late)
    assert "no output 'label'" in str(malformed)
