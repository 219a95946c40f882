"""How much may be under way at once: rows, requests or bytes."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from serving.server.deadline import Deadline
from serving.server.errors import ServingError, deadline_exceeded, invalid_argument

_LOOK_S = 0.1  # so often one who waits looks whether the client is still there


class WeightedSemaphore:
    """A number of units, parts of which are taken and given back; from any thread."""

    def __init__(self, most: int, unit: str):
        """Makes a room, all of it free.

        Args:
            most: Units there are.
            unit: Their name in errors, in the plural.
        """
        self.most, self._unit = most, unit
        self._used = 0
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    def check(self, units: int) -> None:
        """Refuses what can never fit.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        if units > self.most:
            raise invalid_argument(
                f"The request has {units} {self._unit}, and the limit is {self.most}"
            )

    @contextmanager
    def taken(self, units: int, deadline: Deadline) -> Iterator[None]:
        """Waits until there is room, in the order of coming, and keeps it.

        Raises:
            ServingError: INVALID_ARGUMENT where it is more than there can be,
                DEADLINE_EXCEEDED where the wait was too long, or the client left.
        """
        self.check(units)
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                while self._line[0] is not ticket or self._used + units > self.most:
                    self._wait(units, deadline)
                self._used += units
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            self._give_back(units)

    @contextmanager
    def taken_now(self, units: int) -> Iterator[None]:
        """Keeps room that is there at once.

        Raises:
            ServingError: INVALID_ARGUMENT where it is more than there can be,
                RESOURCE_EXHAUSTED where there is none.
        """
        with self.growing() as take:
            take(units)
            yield

    @contextmanager
    def growing(self) -> Iterator[Callable[[int], None]]:
        """Yields take(units), which keeps more of the room each time, as `taken_now`.

        All of it is given back at the end.
        """
        kept = 0

        def take(units: int) -> None:
            nonlocal kept
            self.check(kept + units)
            self._take(units)
            kept += units

        try:
            yield take
        finally:
            self._give_back(kept)

    def _wait(self, units: int, deadline: Deadline) -> None:
        if deadline.is_over:
            raise deadline_exceeded(
                f"No room for {units} {self._unit} before the deadline"
            )
        left_s = deadline.remaining_s()
        self._changed.wait(_LOOK_S if left_s is None else min(left_s, _LOOK_S))

    def _take(self, units: int) -> None:
        with self._changed:
            if self._used + units > self.most:
                raise over_limit(self._unit, self._used, self.most, units)
            self._used += units

    def _give_back(self, units: int) -> None:
        with self._changed:
            self._used -= units
            self._changed.notify_all()


def over_limit(unit: str, used: int, most: int, more: int) -> ServingError:
    """Returns the error of what has no room now."""
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"Too many {unit} in flight: {used} of {most}, and {more} more asked for; "
        "try again later",
    )
