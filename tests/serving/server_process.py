"""The TF Serving-compatible server in a process of its own, on free ports."""

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
class ServerProcess:
    """A running server; `grpc` and `rest` are HOST:PORT."""

    grpc: str
    rest: str
    process: subprocess.Popen


@contextmanager
def start_server(
    models: dict[str, Path], log: Path, *flags: str
) -> Iterator[ServerProcess]:
    """Serves models by name; `models` has base paths, with versions inside.

    Raises:
        AssertionError: The server does not start, or does not exit with code 0.
    """
    words = [w for name, path in models.items() for w in ("--model", f"{name}={path}")]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, *words, "--port", "0", "--rest-port", "0", *flags],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _wait_until_serving(process, log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0, log.read_text()[-2000:]
    finally:
        process.kill()
        process.wait()


def _wait_until_serving(process: subprocess.Popen, log: Path) -> ServerProcess:
    """Waits for the lines of the log with the addresses."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        text = log.read_text()
        if re.search(r"^Serving: ", text, re.MULTILINE):
            ports = dict(re.findall(r"^(gRPC|REST): +(\S+:\d+)$", text, re.MULTILINE))
            return ServerProcess(ports["gRPC"], ports["REST"], process)
        time.sleep(0.1)
    raise AssertionError(f"The server does not start:\n{log.read_text()[-2000:]}")
