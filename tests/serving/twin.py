"""The twin as a process of its own, on free ports of this machine."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "serving.server")
START_S, STOP_S = 180, 60


@dataclass(frozen=True)
class Doors:
    """Where a server listens, each as HOST:PORT, and its process."""

    grpc: str
    rest: str
    process: subprocess.Popen


@contextmanager
def serving(models: dict[str, Path], log: Path, *flags: str) -> Iterator[Doors]:
    """Serves each model under its name; `models` has base paths, with versions inside.

    Raises:
        AssertionError: It does not start, or does not end well when told to.
    """
    named = [f"{name}={path}" for name, path in models.items()]
    words = [word for one in named for word in ("--model", one)]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*COMMAND, *words, "--port", "0", "--rest-port", "0", *flags],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _doors(server, log)
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        assert server.wait(STOP_S) == 0, log.read_text()[-2000:]
    finally:
        server.kill()
        server.wait()


def _doors(server: subprocess.Popen, log: Path) -> Doors:
    """Waits for the lines that say where it listens, and that it serves."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        said = log.read_text()
        if re.search(r"^Serving: ", said, re.MULTILINE):
            found = dict(re.findall(r"^(gRPC|REST): +(\S+:\d+)$", said, re.MULTILINE))
            return Doors(found["gRPC"], found["REST"], server)
        time.sleep(0.1)
    raise AssertionError(f"The server does not start:\n{log.read_text()[-2000:]}")
