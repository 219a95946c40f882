"""Retries: which errors, which waits, until when."""

import pytest
import tenacity

from serving.client.errors import PredictError
from serving.client.retry import policy
from serving.client.settings import Settings


def error(is_transient=True, retry_after_s=None):
    return PredictError(
        "UNAVAILABLE",
        "full",
        target="t",
        is_transient=is_transient,
        retry_after_s=retry_after_s,
    )


def run(failures, retries=4, remaining_s=60.0):
    """Returns the waits and the outcome of a call with these failures."""
    remaining, waits = list(failures), []
    retrying = tenacity.Retrying(**policy(retries, remaining_s), sleep=waits.append)

    def call():
        if remaining:
            raise remaining.pop(0)
        return "reply"

    try:
        return waits, retrying(call)
    except PredictError as last:
        return waits, last


def test_transient_errors_are_retried_after_random_growing_waits():
    runs = [run([error()] * 4) for _ in range(200)]
    assert all(outcome == "reply" for _, outcome in runs)
    for i, limit_s in enumerate([0.5, 1, 2, 4]):
        waits = [waits[i] for waits, _ in runs]
        assert 0.5 * limit_s <= min(waits) < 0.6 * limit_s
        assert 0.9 * limit_s < max(waits) <= limit_s


def test_a_server_may_restart_within_ten_seconds_and_waits_have_a_limit():
    settings = Settings(target="localhost:8500")
    for _ in range(100):
        waits, _ = run([error()] * 100, settings.retries, settings.timeout_s)
        assert sum(waits) > 10
    waits, _ = run([error()] * 30, retries=30, remaining_s=1e9)
    assert len(waits) == 30 and max(waits) <= 5


def test_after_the_last_retry_the_last_error_is_raised():
    errors = [error() for _ in range(5)]
    waits, last = run(errors, retries=2)
    assert len(waits) == 2 and last is errors[2]


def test_other_errors_are_not_retried():
    assert run([error(is_transient=False)])[0] == []
    fail = {"sleep": lambda _: pytest.fail("waited")}
    with pytest.raises(ZeroDivisionError):
        tenacity.Retrying(**policy(4, 60.0), **fail)(lambda: 1 / 0)


def test_the_wait_that_the_server_requests_is_used_if_it_is_longer():
    assert run([error(retry_after_s=7.0)], remaining_s=60)[0] == [7.0]
    assert run([error(retry_after_s=0.01)], remaining_s=60)[0][0] >= 0.25


def test_a_wait_beyond_the_deadline_is_not_started():
    waits, last = run([error(retry_after_s=7.0)], remaining_s=5)
    assert waits == [] and isinstance(last, PredictError)
