"""Load generators: h2load for gRPC and hey for REST."""

import math
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300
STREAMS = 16  # concurrent requests per gRPC connection
_DEBIAN = {"h2load": "nghttp2-client", "hey": "hey"}


@dataclass(frozen=True)
class Load:
    """Measurement of a load generator.

    Attributes:
        per_s: Successful responses per second of the tool's total time.
        failed: Requests with an error or without a response.
    """

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def percentile(values: list[float], share: float) -> float:
    """Returns the smallest value that a share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def grpc_load(
    target: str,
    method: str,
    message: bytes,
    response: bytes,
    *,
    count: int,
    in_flight: int,
) -> Load:
    """Sends `message` to a method, `count` times, `in_flight` at once.

    A gRPC error has HTTP status 200, and h2load ignores trailers. Failures are counted
    by length: an error has no body, and each response is as long as `response`.
    """
    clients = math.ceil(in_flight / STREAMS)
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(_frame(message))
        output = _run(
            *("h2load", "-n", count, "-c", clients, "-m", in_flight // clients),
            *("-t", 1, "--log-file", log, "-d", body),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            f"http://{target}/{method}",
        )
        times_ms = [int(line.split()[2]) / 1e3 for line in log.open()]
    received = int(re.search(r"\((\d+)\) data", output)[1])
    responses = min(count, received // len(_frame(response)))
    amount, unit = re.search(r"finished in ([\d.]+)(us|ms|s|m)", output).groups()
    seconds = float(amount) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[unit]
    return _load(count, responses, times_ms, seconds)


def rest_load(url: str, body: bytes, *, count: int, in_flight: int) -> Load:
    """Posts JSON to a URL, `count` times (a multiple of `in_flight`)."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        output = _run(
            *("hey", "-n", count, "-c", in_flight, "-m", "POST", "-D", file.name),
            *("-T", "application/json", "-o", "csv", url),
        )
    rows = [line.split(",") for line in output.splitlines()[1:]]
    ends_s = [float(row[7]) + float(row[0]) for row in rows]
    responses = sum(row[6] == "200" for row in rows)
    times_ms = [1e3 * float(row[0]) for row in rows]
    return _load(count, responses, times_ms, max(ends_s, default=0.0))


def _load(count: int, responses: int, times_ms: list[float], seconds: float) -> Load:
    return Load(
        requests=count,
        per_s=responses / seconds if seconds else 0.0,
        p50_ms=percentile(times_ms, 0.50) if times_ms else math.nan,
        p99_ms=percentile(times_ms, 0.99) if times_ms else math.nan,
        failed=count - responses,
    )


def _frame(message: bytes) -> bytes:
    """Returns a message in gRPC's framing: no compression, length, message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _run(tool: str, *words: object) -> str:
    if shutil.which(tool) is None:
        sys.exit(f"The program '{tool}' is missing (Debian: {_DEBIAN[tool]}).")
    done = subprocess.run(
        [tool, *map(str, words)], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if done.returncode:
        sys.exit(f"{tool}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
