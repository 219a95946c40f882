"""Progress lines on the screen, with the output of all libraries in a log file."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tfx.orchestration.portable import launcher


class Progress:
    """Writer of one line per component to the screen.

    `current` is the running component or ""; `seconds` is component -> duration.
    """

    def __init__(self, screen: TextIO, total: int):
        self.screen, self.total = screen, total
        self.current, self._start = "", 0.0
        self.seconds: dict[str, float] = {}

    def begin(self, name: str) -> None:
        self.current, self._start = name, time.monotonic()
        if self.screen.isatty():
            self._write(f"\r{self._head()}...")

    def end(self, cached: bool) -> None:
        duration_s = time.monotonic() - self._start
        result = "from the cache" if cached else f"{duration_s:6.1f} s"
        start = "\r" if self.screen.isatty() else ""
        self._write(f"{start}{self._head()} {result}\n")
        self.seconds[self.current], self.current = duration_s, ""

    def _head(self) -> str:
        number = len(self.seconds) + 1
        return f"[{number:2d}/{self.total}] {self.current:<20}"

    def _write(self, text: str) -> None:
        self.screen.write(text)
        self.screen.flush()


@contextmanager
def report_progress(progress: Progress, signals: Sequence[int]) -> Iterator[None]:
    """Reports each component that TFX's local runner launches to `progress`.

    Args:
        signals: Signals received so far; after one, no other component starts.
    """

    class ReportingLauncher(launcher.Launcher):
        has_run = False

        def launch(self):
            progress.begin(self._pipeline_node.node_info.id)
            self._check_signals()
            try:
                execution = super().launch()
            finally:  # a library may have swallowed or replaced the KeyboardInterrupt
                self._check_signals()
            is_resolver = self._system_node_handler is not None  # it has no executor
            progress.end(cached=not self.has_run and not is_resolver)
            return execution

        def _check_signals(self):
            if signals:
                raise KeyboardInterrupt

        def _run_executor(self, execution_info):
            self.has_run = True
            return super()._run_executor(execution_info)

    before, launcher.Launcher = launcher.Launcher, ReportingLauncher
    try:
        yield
    finally:
        launcher.Launcher = before


@contextmanager
def redirect_output(log: Path, total: int) -> Iterator[Progress]:
    """Redirects stdout and stderr of this process and its children to a file.

    The file is overwritten. Yields the writer of the progress lines of `total`
    components.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptors = [os.dup(1), os.dup(2)]
    screen = os.fdopen(os.dup(1), "w", encoding="utf-8")
    progress = Progress(screen, total)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield progress
    finally:
        if progress.current and screen.isatty():
            screen.write("\n")
        for number, file in enumerate((sys.stdout, sys.stderr), start=1):
            _flush_or_drop(file, number)
            os.dup2(descriptors[number - 1], number)
            os.close(descriptors[number - 1])
        screen.close()


def _flush_or_drop(file: TextIO, descriptor: int) -> None:
    """Writes the rest of the output to the log, or drops it if the disk is full."""
    try:
        file.flush()
    except OSError:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), descriptor)
        file.flush()
