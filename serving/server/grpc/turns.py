"""Turns of calls, the newest first."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from serving.server.deadline import Deadline
from serving.server.engine.admission import over_limit
from serving.server.errors import deadline_exceeded


class Turns:
    """Lock that the newest caller gets first: the oldest ones may be slow."""

    def __init__(self, max_waiting: int):
        """Creates a lock; if more than `max_waiting` wait, the oldest is refused."""
        self._is_free, self._max_waiting = True, max_waiting
        self._waiting: deque[Future] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def take(self, deadline: Deadline) -> Iterator[None]:
        """Waits for the turn, and has it in the context.

        Raises:
            ServingError: RESOURCE_EXHAUSTED if too many wait, DEADLINE_EXCEEDED.
        """
        ticket: Future = Future()
        with self._lock:
            self._waiting.append(ticket)
            if self._is_free:
                self._pass_on()
            elif len(self._waiting) > (limit := self._max_waiting):
                error = over_limit("arriving requests", limit, limit, 1)
                self._waiting.popleft().set_exception(error)
        try:
            ticket.result(deadline.remaining_s())
        except TimeoutError:
            with self._lock:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                elif not ticket.exception():
                    self._pass_on()
            raise deadline_exceeded("The request has not arrived in time") from None
        try:
            yield
        finally:
            with self._lock:
                self._pass_on()

    def _pass_on(self) -> None:
        self._is_free = not self._waiting
        if self._waiting:
            self._waiting.pop().set_result(None)
