"""Weighted semaphore that limits concurrent rows, requests and bytes."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from serving.server.deadline import Deadline
from serving.server.errors import ServingError, deadline_exceeded, invalid_argument

_POLL_S = 0.1  # interval at which a waiter checks whether its client has left


class WeightedSemaphore:
    """Weighted semaphore with FIFO order and deadlines; thread-safe.

    Attributes:
        waiters: One ticket per caller that waits, the oldest first.
    """

    def __init__(self, limit: int, unit: str):
        """Creates a semaphore of `limit` units; `unit` is their plural in errors."""
        self.limit, self._unit = limit, unit
        self._used = 0
        self.waiters: deque[object] = deque()
        self._changed = threading.Condition()

    def check(self, units: int) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for units above the limit."""
        if units > self.limit:
            raise invalid_argument(
                f"The request has {units} {self._unit}, and the limit is {self.limit}"
            )

    @contextmanager
    def acquire(self, units: int, deadline: Deadline) -> Iterator[None]:
        """Waits for its turn and for `units` free units; holds them in the context.

        Raises:
            ServingError: INVALID_ARGUMENT for units above the limit,
                DEADLINE_EXCEEDED if the deadline passed or the client left.
        """
        with self.acquire_incrementally() as reservation:
            reservation.wait_for(units, deadline)
            yield

    @contextmanager
    def try_acquire(self, units: int) -> Iterator[None]:
        """Holds `units` in the context, without waiting.

        Raises:
            ServingError: INVALID_ARGUMENT for units above the limit,
                RESOURCE_EXHAUSTED if too few are free.
        """
        with self.acquire_incrementally() as acquire:
            acquire(units)
            yield

    def acquire_incrementally(self) -> "Reservation":
        """Returns a context whose value adds units without waiting, as `try_acquire`.

        The context releases all of them at its end.
        """
        return Reservation(self)

    def wait_for(self, units: int, deadline: Deadline) -> None:
        """Takes units as `acquire` does."""
        ticket = object()
        with self._changed:
            self.waiters.append(ticket)
            try:
                while self.waiters[0] is not ticket or self._used + units > self.limit:
                    if deadline.is_over:
                        raise deadline_exceeded(
                            f"No room for {units} {self._unit} before the deadline"
                        )
                    self._changed.wait(deadline.within(_POLL_S).remaining_s())
                self._used += units
            finally:
                self.waiters.remove(ticket)
                self._changed.notify_all()

    def add(self, units: int) -> None:
        """Takes units as `try_acquire` does; gives them back if they are negative."""
        with self._changed:
            if units > 0 and self._used + units > self.limit:
                raise over_limit(self._unit, self._used, self.limit, units)
            self._used += units
            self._changed.notify_all()


class Reservation:
    """Units of a semaphore that one request holds; a call adds units."""

    def __init__(self, semaphore: WeightedSemaphore):
        self._semaphore, self.held = semaphore, 0

    def __call__(self, units: int) -> None:
        self.resize(self.held + units)

    def resize(self, units: int) -> None:
        """Holds `units` instead of the present number, without waiting."""
        self._semaphore.check(units)
        self._semaphore.add(units - self.held)
        self.held = units

    def wait_for(self, units: int, deadline: Deadline) -> None:
        """Holds `units` instead of the present number; waits if they are more."""
        self._semaphore.check(units)
        self._semaphore.wait_for(units - self.held, deadline)
        self.held = units

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_) -> None:
        self.resize(0)


def over_limit(unit: str, used: int, limit: int, extra: int) -> ServingError:
    """Returns the RESOURCE_EXHAUSTED error of a full semaphore."""
    return ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"Too many {unit} in flight: {used} of {limit}, and {extra} more asked for; "
        "try again later",
    )
