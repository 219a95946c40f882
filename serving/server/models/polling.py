"""Thread that repeats a check and logs its problems."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from threading import Event, Thread

from serving.server.models.lifecycle import Log


class Poller:
    """Thread that checks at an interval, or when `wakes` is set; logs new problems."""

    def __init__(self, check: Callable[[], Iterable[str]], interval_s: float, log: Log):
        self._check, self._interval_s, self._log = check, interval_s, log
        self.wakes, self._is_stopped = Event(), False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after a running check."""
        self._is_stopped = True
        self.wakes.set()
        self._thread.join(5.0)  # s, as a remote base path may hang

    def _run(self) -> None:
        previous: set[str] = set()
        while not self._is_stopped:
            problems: set[str] = set()
            for problem in self._problems():
                if problem not in previous | problems:
                    self._log(problem)
                problems.add(problem)
            previous = problems
            self.wakes.wait(self._interval_s)
            self.wakes.clear()

    def _problems(self) -> Iterator[str]:
        try:
            yield from self._check()
        except Exception:  # the thread must not end
            yield traceback.format_exc()
