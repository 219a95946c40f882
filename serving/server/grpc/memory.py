"""Memory of the process: its growth, and the return of free memory to the system."""

import ctypes
import resource
import threading
import time
from collections import deque
from functools import cache

LARGE_BYTES = 2**24  # messages after which memory is returned
_USED_PAGES = "/proc/self/statm"
# Periods whose minimum is the memory without requests. It adapts to memory that stays.
_PERIODS, _PERIOD_S = 10, 30.0


class ProcessMemory:
    """Memory of the process above its minimum of the last periods; thread-safe."""

    def __init__(self):
        self._minimums: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Makes the present memory the minimum."""
        with self._lock:
            self._minimums.clear()
        self.growth_bytes()

    def growth_bytes(self) -> int:
        """Returns the present growth, in about 10 microseconds; 0 without /proc."""
        try:
            with open(_USED_PAGES, encoding="ascii") as file:
                used = int(file.read().split()[1]) * resource.getpagesize()
        except FileNotFoundError:
            return 0
        period = int(time.monotonic() / _PERIOD_S)
        with self._lock:
            minimum = used
            if self._minimums and self._minimums[-1][0] == period:
                minimum = min(used, self._minimums.pop()[1])
            self._minimums.append((period, minimum))
            while self._minimums[0][0] <= period - _PERIODS:
                self._minimums.popleft()
            return used - min(minimum for _, minimum in self._minimums)


def trim_memory() -> None:
    """Returns free memory to the system.

    glibc keeps it otherwise, since gRPC allocates a message in many small parts.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim():
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # None: no glibc
