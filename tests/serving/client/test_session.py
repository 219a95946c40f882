"""Steps of a talk, and its deadline."""

import pytest

from serving.client import session as exchanges
from serving.client.errors import PredictError
from serving.client.session import CallSession


def talk():
    first = yield "one"
    try:
        yield f"two after {first}"
    except PredictError as error:
        return f"{error.code} after {error.attempts}"


def test_a_talk_is_led_from_call_to_call_to_its_result():
    exchange = CallSession(talk(), 1e9)
    assert exchange.call == "one" and exchange.result is None
    exchange.reply(1)
    assert exchange.call == "two after 1"
    exchange.fail(PredictError("NOT_FOUND", "", target="t"), attempts=3)
    assert exchange.call is None and exchange.result == "NOT_FOUND after 3"


def test_an_error_that_the_talk_does_not_take_comes_out():
    exchange, error = CallSession(talk(), 1e9), PredictError("INTERNAL", "", target="t")
    with pytest.raises(PredictError) as raised:
        exchange.fail(error, attempts=1)
    assert raised.value is error


def test_all_calls_of_a_talk_share_one_deadline(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(exchanges.time, "monotonic", lambda: now[0])
    exchange = CallSession(talk(), 105.0)
    now[0] = 103.0
    exchange.reply(1)
    assert exchange.remaining_s() == 2.0
    now[0] = 200.0
    assert exchange.remaining_s() == 0.001
