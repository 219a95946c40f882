"""Deadline and cancellation of a request."""

import copy
import threading
import time


class Deadline:
    """Time limit of a request, with a flag for cancellation by the client.

    Attributes:
        at_s: `time.monotonic()` at which the request expires; None: never.
    """

    def __init__(self, seconds: float | None = None, since_s: float | None = None):
        """Sets the time limit.

        Args:
            seconds: Time limit; None: unlimited.
            since_s: Start, as `time.monotonic()`; None: now.
        """
        since_s = time.monotonic() if since_s is None else since_s
        self.at_s = None if seconds is None else since_s + seconds
        self._cancelled = threading.Event()

    def within(self, seconds: float) -> "Deadline":
        """Returns a deadline in `seconds` or earlier, which is cancelled with this."""
        at_s = time.monotonic() + seconds
        result = copy.copy(self)
        result.at_s = at_s if self.at_s is None else min(at_s, self.at_s)
        return result

    def cancel(self) -> None:
        """Marks the request as cancelled by its client."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def remaining_s(self) -> float | None:
        """Returns the seconds left, at least 0.0; None: unlimited."""
        return None if self.at_s is None else max(0.0, self.at_s - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether the request has expired or was cancelled."""
        return self.cancelled or self.remaining_s() == 0.0
