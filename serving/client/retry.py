"""When a call is sent again: after what, how soon, and until when.

Only what may well be answered the next time and can do no harm twice: a server that is
not there yet or has just gone, a full queue, a gateway that says 429, 502 or 503. All
calls of this client only read, so that it does not matter if the first was carried out.
An argument that was refused is refused again, and a deadline that is over stays so.
"""

import random
from typing import Any

import tenacity

from serving.client.errors import PredictError

_FIRST_S, _LONGEST_S = 0.5, 5.0


def policy(retries: int, remaining_s: float) -> dict[str, Any]:
    """Returns the settings for `tenacity.Retrying`, and `AsyncRetrying` alike.

    The waits grow twofold from 0.5 to 5 seconds, each at random between half of that
    and all ("equal jitter"), or as long as the server asks if that is longer. No wait
    begins that would end behind `remaining_s`: the last error comes at once instead.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return {
        "retry": tenacity.retry_if_exception(_is_transient),
        "wait": _wait,
        "stop": tenacity.stop_after_attempt(retries + 1)
        | tenacity.stop_before_delay(remaining_s),
        "reraise": True,
    }


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, PredictError) and error.is_transient


def _wait(state: tenacity.RetryCallState) -> float:
    asked_s = getattr(state.outcome.exception(), "retry_after_s", None) or 0.0
    longest_s = min(_FIRST_S * 2.0 ** min(state.attempt_number - 1, 10), _LONGEST_S)
    return max(asked_s, longest_s * random.uniform(0.5, 1.0))
