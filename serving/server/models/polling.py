"""Thread that repeats a check and logs its problems."""

import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

_STOP_S = 5.0  # maximum wait for a running check


class Poller:
    """Thread that checks items at once, and then at an interval until `stop`.

    A check returns problems. Those that the previous round had are not logged again.
    """

    def __init__(
        self,
        check: Callable[[Any], Iterable[str]],
        items: Callable[[], Iterable],
        interval_s: float,
        log: Callable[[str], object],
    ):
        self._check, self._items = check, items
        self._interval_s, self._write_log = interval_s, log
        self._wakes, self._is_stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Ends the wait for the next check."""
        self._wakes.set()

    def stop(self) -> None:
        """Ends the thread after a running check."""
        self._is_stopped = True
        self.wake()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        previous: set[str] = set()
        while not self._is_stopped:
            self._wakes.clear()
            problems = set()
            for item in self._items():
                for problem in self._problems(item):
                    if problem not in previous | problems:
                        self._write_log(problem)
                    problems.add(problem)
            previous = problems
            self._wakes.wait(self._interval_s)

    def _problems(self, item: Any) -> list[str]:
        try:
            return list(self._check(item))
        except Exception:  # one item must not end the checks of the others
            return [traceback.format_exc()]
