"""A talk under way: its next call, until there is none, and its deadline."""

import time
from collections.abc import Callable
from typing import Any

from serving.client.errors import PredictError
from serving.client.protocol import Talk
from serving.client.requests import Call, Reply


class CallSession:
    """Steps through a talk; whoever holds it gets the replies to its calls.

    Attributes:
        call: What to send next; None: the talk is over.
        result: What the talk returned.
    """

    def __init__(self, talk: Talk[Any], ends_s: float):
        """`ends_s` is the deadline, by `time.monotonic`."""
        self._talk, self._ends_s = talk, ends_s
        self.call: Call | None = None
        self.result: Any = None
        self._step(lambda: next(talk))

    def remaining_s(self) -> float:
        """Returns the seconds left, as `remaining_s` below."""
        return remaining_s(self._ends_s)

    def reply(self, reply: Reply) -> None:
        """Goes on with the reply to the call."""
        self._step(lambda: self._talk.send(reply))

    def fail(self, error: PredictError, attempts: int) -> None:
        """Goes on with the call's failure, after so many attempts."""
        error.attempts = attempts
        self._step(lambda: self._talk.throw(error))

    def _step(self, step: Callable[[], Call]) -> None:
        try:
            self.call = step()
        except StopIteration as end:
            self.call, self.result = None, end.value


def remaining_s(ends_s: float) -> float:
    """Returns the seconds until a deadline, a thousandth where it is over."""
    return max(ends_s - time.monotonic(), 0.001)
