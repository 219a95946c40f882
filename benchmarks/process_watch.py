"""Memory, CPU time, file descriptors and threads of other processes."""

import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def run_python(*arguments: str) -> tuple[str, float, float]:
    """Runs Python; returns its output, seconds and peak memory in GB."""
    with tempfile.NamedTemporaryFile("r+") as log:
        start_s = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - start_s
        text = Path(log.name).read_text()
    if status:
        sys.exit(text[-3000:])
    return text, took_s, usage.ru_maxrss / 1e6


@dataclass(frozen=True)
class Sample:
    """State of a process, `at_s` seconds after the first sample."""

    at_s: float
    rss_mb: float
    files: int
    threads: int


class Watch:
    """Context that samples a process in a thread."""

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
            except OSError:  # the process has ended
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
    """Returns the growth of the field `noun` per minute, by linear regression."""
    minutes = [sample.at_s / 60 for sample in samples]
    return float(np.polyfit(minutes, [getattr(s, noun) for s in samples], 1)[0])


def bounds(samples: list[Sample], noun: str) -> tuple[float, float]:
    """Returns the minimum and maximum of the field `noun`."""
    values = [getattr(sample, noun) for sample in samples]
    return min(values), max(values)


def process_tree(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += map(int, task.read_text().split())
    return pids


def memory_mib(pids: list[int], field: str = "VmRSS") -> float:
    """Returns the sum of a field of /proc/PID/status, as VmRSS or VmHWM (peak)."""
    texts = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(re.search(rf"{field}:\s+(\d+)", text)[1]) for text in texts) / 1024


def reset_peak(pids: list[int]) -> None:
    """Sets VmHWM of each process to its present memory."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pids: list[int]) -> float:
    """Returns the CPU time of all threads of the processes."""
    texts = (Path(f"/proc/{pid}/stat").read_text() for pid in pids)
    fields = (text.rpartition(")")[2].split() for text in texts)
    ticks = sum(int(values[11]) + int(values[12]) for values in fields)
    return ticks / os.sysconf("SC_CLK_TCK")


def deleted_mib(pids: list[int]) -> float:
    """Returns the disk space of open files without a name: temporary files."""
    blocks = 0
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                status = file.stat()
            except OSError:  # closed since
                continue
            if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                blocks += status.st_blocks
    return blocks * 512 / 2**20
