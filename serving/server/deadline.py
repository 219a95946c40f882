"""Until when somebody waits for an answer, and whether somebody still does."""

import threading
import time


class Deadline:
    """A moment, and a flag that the client sets by going away.

    Attributes:
        at_s: When the answer is no longer wanted, by `time.monotonic()`; None: never.
    """

    def __init__(self, seconds: float | None = None, since_s: float | None = None):
        """Sets the moment.

        Args:
            seconds: How long the answer is wanted; None: at any time.
            since_s: Since when, by `time.monotonic()`; by default since now.
        """
        since_s = time.monotonic() if since_s is None else since_s
        self.at_s = None if seconds is None else since_s + seconds
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Says that nobody waits any more."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the client has gone away."""
        return self._cancelled.is_set()

    def remaining_s(self) -> float | None:
        """Returns the seconds left, 0.0 where they are over; None: any number."""
        return None if self.at_s is None else max(0.0, self.at_s - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether the answer is wanted no longer."""
        return self.cancelled or self.remaining_s() == 0.0
