"""Memory, file descriptors and threads of another process, once a second."""

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One look at a process.

    Attributes:
        at_s: Since the first one.
        rss_mb: Memory that it has in the machine.
        files: Open file descriptors.
        threads: Threads.
    """

    at_s: float
    rss_mb: float
    files: int
    threads: int


class Watch:
    """Looks at a process from a thread, between `with` and its end."""

    def __init__(self, pid: int, every_s: float = 1.0):
        self.samples: list[Sample] = []
        self._pid, self._every_s = pid, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        start_s, folder = time.monotonic(), Path(f"/proc/{self._pid}")
        while True:
            try:
                status = (folder / "status").read_text()
                files = len(os.listdir(folder / "fd"))
            except OSError:  # it is gone
                return
            number = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.M))
            at_s = time.monotonic() - start_s
            rss_mb = int(number["VmRSS"]) / 1024
            self.samples.append(Sample(at_s, rss_mb, files, int(number["Threads"])))
            if self._over.wait(self._every_s):
                return


def late(samples: list[Sample]) -> list[Sample]:
    """Returns the second half, when all that is made once has been made."""
    return samples[len(samples) // 2 :]


def growth(samples: list[Sample], noun: str) -> float:
    """Returns how much `noun` grows a minute: the slope of the line through it."""
    minutes = [sample.at_s / 60 for sample in samples]
    return float(np.polyfit(minutes, [getattr(s, noun) for s in samples], 1)[0])


def bounds(samples: list[Sample], noun: str) -> tuple[float, float]:
    """Returns the least and the most of `noun`."""
    values = [getattr(sample, noun) for sample in samples]
    return min(values), max(values)
