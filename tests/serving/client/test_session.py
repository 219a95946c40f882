"""Steps, result and deadline of a session."""

import pytest

from serving.client import session as session_module
from serving.client.errors import PredictError
from serving.client.session import CallSession


def flow():
    reply = yield "one"
    try:
        yield f"two after {reply}"
    except PredictError as error:
        return f"{error.code} after {error.attempts}"


def test_a_session_leads_a_flow_from_call_to_call_to_its_result():
    session = CallSession(flow(), 1e9)
    assert session.call == "one" and session.result is None
    session.reply(1)
    assert session.call == "two after 1"
    session.fail(PredictError("NOT_FOUND", "", target="t"), attempts=3)
    assert session.call is None and session.result == "NOT_FOUND after 3"


def test_an_error_that_the_flow_does_not_handle_is_raised():
    session, error = CallSession(flow(), 1e9), PredictError("INTERNAL", "", target="t")
    with pytest.raises(PredictError) as raised:
        session.fail(error, attempts=1)
    assert raised.value is error


def test_all_calls_of_a_flow_share_one_deadline(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(session_module.time, "monotonic", lambda: now_s[0])
    session = CallSession(flow(), 105.0)
    now_s[0] = 103.0
    session.reply(1)
    assert session.remaining_s() == 2.0
    now_s[0] = 200.0
    assert session.remaining_s() == 0.001
