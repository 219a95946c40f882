"""h2load for gRPC and hey for REST: one request, many times, so many in flight."""

import math
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300
# A connection carries this many requests at once, as one of a gRPC client does.
STREAMS = 16
_DEBIAN = {"h2load": "nghttp2-client", "hey": "hey"}


@dataclass(frozen=True)
class Load:
    """What a load tool has measured.

    Attributes:
        per_s: Answers a second, over all of the time that the tool took.
        p50_ms, p99_ms: Time from a request to its answer.
        failed: Requests that got no answer, or an error for one.
    """

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def percentile(values: list[float], share: float) -> float:
    """Returns the smallest of `values` that `share` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def grpc_load(
    target: str, method: str, message: bytes, answer: bytes, *, count: int, flying: int
) -> Load:
    """Sends `message` to a method, `count` times, `flying` at once.

    A gRPC error is 200 in HTTP, and h2load does not look at trailers. But an error has
    no body, and each answer is as long as `answer`: what is missing are failures.
    """
    clients = math.ceil(flying / STREAMS)
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(_framed(message))
        said = _run(
            *("h2load", "-n", count, "-c", clients, "-m", flying // clients),
            *("-t", 1, "--log-file", log, "-d", body),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            f"http://{target}/{method}",
        )
        times_ms = [int(line.split()[2]) / 1e3 for line in log.open()]
    received = int(re.search(r"\((\d+)\) data", said)[1])
    answered = min(count, received // len(_framed(answer)))
    amount, unit = re.search(r"finished in ([\d.]+)(us|ms|s|m)", said).groups()
    seconds = float(amount) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[unit]
    return _load(count, answered, times_ms, seconds)


def rest_load(url: str, body: bytes, *, count: int, flying: int) -> Load:
    """Posts JSON to a URL, `count` times (a multiple of `flying`), `flying` at once."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        said = _run(
            *("hey", "-n", count, "-c", flying, "-m", "POST", "-D", file.name),
            *("-T", "application/json", "-o", "csv", url),
        )
    rows = [line.split(",") for line in said.splitlines()[1:]]
    ends_s = [float(row[7]) + float(row[0]) for row in rows]
    answered = sum(row[6] == "200" for row in rows)
    times_ms = [1e3 * float(row[0]) for row in rows]
    return _load(count, answered, times_ms, max(ends_s, default=0.0))


def _load(count: int, answered: int, times_ms: list[float], seconds: float) -> Load:
    return Load(
        requests=count,
        per_s=answered / seconds if seconds else 0.0,
        p50_ms=percentile(times_ms, 0.50) if times_ms else math.nan,
        p99_ms=percentile(times_ms, 0.99) if times_ms else math.nan,
        failed=count - answered,
    )


def _framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its length, and itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _run(tool: str, *words: object) -> str:
    if shutil.which(tool) is None:
        sys.exit(f"There is no program '{tool}' (Debian: {_DEBIAN[tool]}).")
    done = subprocess.run(
        [tool, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if done.returncode:
        sys.exit(f"{tool}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
