"""How much may be under way at once: rows, requests or bytes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from serving.server.deadline import Deadline
from serving.server.errors import ServingError, invalid_argument


class Room:
    """A number of units, parts of which are taken and given back; from any thread."""

    def __init__(self, most: int, unit: str):
        """Makes a room, all of it free.

        Args:
            most: Units there are.
            unit: Their name in errors, in the plural.
        """
        self.most, self._unit = most, unit
        self._used = 0
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
        """Waits until there is room, and keeps it.

        Raises:
            ServingError: INVALID_ARGUMENT where it is more than there can be,
                DEADLINE_EXCEEDED where the wait was too long.
        """
        self.check(units)
        with self._changed:
            fits = self._changed.wait_for(
                lambda: self._used + units <= self.most, deadline.remaining_s()
            )
            if not fits or deadline.cancelled:
                raise ServingError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"No room for {units} {self._unit} before the deadline",
                )
            self._used += units
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

    def _take(self, units: int) -> None:
        with self._changed:
            if self._used + units > self.most:
                raise ServingError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"Too many {self._unit} in flight: {self._used} of {self.most}, "
                    f"and {units} more asked for; try again later",
                )
            self._used += units

    def _give_back(self, units: int) -> None:
        with self._changed:
            self._used -= units
            self._changed.notify_all()
