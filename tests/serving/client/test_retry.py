"""What is sent again, how soon, and until when."""

import pytest
import tenacity

from serving.client.errors import PredictError
from serving.client.retry import policy


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
    for i, longest in enumerate([0.1, 0.2, 0.4, 0.8]):
        waits = [run[i] for run, _ in seen]
        assert 0 <= min(waits) < 0.3 * longest
        assert 0.7 * longest < max(waits) <= longest


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


def test_no_wait_begins_that_would_end_after_the_deadline():
    waits, last = sent([error(retry_after_s=7.0)], remaining_s=5)
    assert waits == [] and isinstance(last, PredictError)
