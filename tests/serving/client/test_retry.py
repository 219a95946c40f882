"""What is sent again, how soon, and until when."""

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


def sent(failures, retries=4, remaining_s=60.0):
    """Returns the waits and the outcome of a call that fails so."""
    left, waits = list(failures), []
    again = tenacity.Retrying(**policy(retries, remaining_s), sleep=waits.append)

    def call():
        if left:
            raise left.pop(0)
        return "answer"

    try:
        return waits, again(call)
    except PredictError as last:
        return waits, last


def test_what_is_transient_is_sent_again_and_the_waits_grow_at_random():
    seen = [sent([error()] * 4) for _ in range(200)]
    assert all(answer == "answer" for _, answer in seen)
    for i, longest in enumerate([0.5, 1, 2, 4]):
        waits = [run[i] for run, _ in seen]
        assert 0.5 * longest <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_a_server_that_starts_anew_in_ten_seconds_is_waited_for():
    settings = Settings(target="localhost:8500")
    for _ in range(100):
        waits, _ = sent([error()] * 100, settings.retries, settings.timeout_s)
        assert sum(waits) > 10


def test_no_wait_is_longer_than_five_seconds():
    waits, _ = sent([error()] * 30, retries=30, remaining_s=1e9)
    assert len(waits) == 30 and max(waits) <= 5


def test_the_last_error_comes_after_the_last_retry():
    errors = [error() for _ in range(5)]
    waits, last = sent(errors, retries=2)
    assert len(waits) == 2 and last is errors[2]


def test_what_is_not_transient_is_not_sent_again():
    assert sent([error(is_transient=False)])[0] == []
    again = tenacity.Retrying(**policy(4, 60.0), sleep=lambda _: pytest.fail("waited"))
    with pytest.raises(ZeroDivisionError):
        again(lambda: 1 / 0)


def test_the_server_says_how_long_to_wait():
    assert sent([error(retry_after_s=7.0)], remaining_s=60)[0] == [7.0]
    assert sent([error(retry_after_s=0.01)], remaining_s=60)[0][0] >= 0.25


def test_no_wait_begins_that_would_end_after_the_deadline():
    waits, last = sent([error(retry_after_s=7.0)], remaining_s=5)
    assert waits == [] and isinstance(last, PredictError)
