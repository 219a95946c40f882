"""Driver of one protocol flow: its next call, its result and its deadline."""

import time
from collections.abc import Callable
from typing import Any

from serving.client.errors import PredictError
from serving.client.protocol import Flow
from serving.client.requests import Call, Reply


class CallSession:
    """A flow in progress; at its end `call` is None, and `result` its return value."""

    def __init__(self, flow: Flow[Any], deadline_s: float):
        """Starts the flow; `deadline_s` is a time of `time.monotonic`."""
        self._flow, self._deadline_s = flow, deadline_s
        self.call: Call | None = None
        self.result: Any = None
        self._step(lambda: next(flow))

    def remaining_s(self) -> float:
        """Returns the seconds until the deadline, at least 0.001."""
        return max(self._deadline_s - time.monotonic(), 0.001)

    def reply(self, reply: Reply) -> None:
        """Continues the flow with the reply to the call."""
        self._step(lambda: self._flow.send(reply))

    def fail(self, error: PredictError, attempts: int) -> None:
        """Continues the flow with the error of the call after `attempts`."""
        error.attempts = attempts
        self._step(lambda: self._flow.throw(error))

    def _step(self, step: Callable[[], Call]) -> None:
        try:
            self.call = step()
        except StopIteration as end:
            self.call, self.result = None, end.value
