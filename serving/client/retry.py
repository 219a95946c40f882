"""Retry policy: which calls are sent again, how soon and until when.

Transient errors alone are retried: a server that is not up yet or has just stopped, a
full queue, a gateway's 429, 502 or 503. Calls of this client only read, so a call that
was carried out twice does no harm.
"""

import random
from typing import Any

import tenacity

from serving.client.errors import PredictError

_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 5.0


def policy(retries: int, remaining_s: float) -> dict[str, Any]:
    """Returns arguments of `tenacity.Retrying` and `tenacity.AsyncRetrying`.

    Waits double from 0.5 to 5 seconds, each at random between half of that and all of
    it ("equal jitter"); a longer wait that the server requests is used instead. A wait
    that would exceed `remaining_s` is not started: the last error is raised at once.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return {
        "retry": tenacity.retry_if_exception(_is_transient),
        "wait": _wait_s,
        "stop": tenacity.stop_after_attempt(retries + 1)
        | tenacity.stop_before_delay(remaining_s),
        "reraise": True,
    }


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, PredictError) and error.is_transient


def _wait_s(state: tenacity.RetryCallState) -> float:
    retry_after_s = getattr(state.outcome.exception(), "retry_after_s", None) or 0.0
    doublings = min(state.attempt_number - 1, 10)
    limit_s = min(_FIRST_WAIT_S * 2.0**doublings, _MAX_WAIT_S)
    return max(retry_after_s, limit_s * random.uniform(0.5, 1.0))
