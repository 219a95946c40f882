"""Behaviour of the server under four times its capacity, for a minute.

For gRPC and REST: one client, then the capacity (a closed loop), then an open loop at a
multiple of the capacity, then one client again. Each response of the overload must be a
result or a rejection with a documented code; afterwards all requests must succeed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.load_tools import percentile
from benchmarks.process_watch import Watch, bounds
from benchmarks.serving_load import METHOD, Server, start_server, to_json, warmup_row

BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 4 }
num_batch_threads { value: 2 }
"""
TIMEOUT_S = 2.0
FLAGS = ("--monitoring", "--rest-timeout-seconds", str(TIMEOUT_S))
MAX_REQUESTS = 300_000
# Each REST request in flight is a connection, and the server accepts 1000.
MAX_IN_FLIGHT = {"gRPC": 4000, "REST": 900}
REST_TIMEOUT_S = 60.0  # of the client, for requests in flight at the end
# Beginnings of results and documented rejections.
EXPECTED = (
    "OK",
    "UNAVAILABLE: The batch scheduling queue",
    "RESOURCE_EXHAUSTED: Too many requests in flight",
    "RESOURCE_EXHAUSTED: Too many slow requests in flight",
    "RESOURCE_EXHAUSTED: Too many bytes of requests in flight",
    "RESOURCE_EXHAUSTED: Concurrent RPC limit exceeded",
    "RESOURCE_EXHAUSTED: Run() timeout exceeded",
    "DEADLINE_EXCEEDED",
)


@dataclass(frozen=True)
class Plan:
    """Settings of the measurement.

    Attributes:
        seconds: Duration of the overload.
        short_s: Duration of each measurement before and after it.
        times: Rate of the overload, as a multiple of the capacity.
        in_flight: Concurrent requests of the capacity.
        clients: Client processes of the overload.
        rest_s: Pause after the overload.
    """

    seconds: float = 60.0
    short_s: float = 5.0
    times: float = 4.0
    in_flight: int = 64
    clients: int = 2
    rest_s: float = 1.0


@dataclass(frozen=True)
class LoadResult:
    """Result of one load.

    Attributes:
        held_back: Requests that the client could not send in time.
        seconds: Time until the last response.
        times_ms: {"OK", or code and reason: ms per request}.
    """

    requests: int
    held_back: int
    seconds: float
    times_ms: dict[str, list[float]]

    @property
    def ok_ms(self) -> list[float]:
        return self.times_ms.get("OK", [])

    @property
    def ok_per_s(self) -> float:
        return len(self.ok_ms) / self.seconds

    @property
    def failures(self) -> dict[str, int]:
        """Counts of unexpected responses and of requests without a response."""
        counts = {reason: len(times) for reason, times in self.times_ms.items()}
        lost = self.requests - sum(counts.values())
        unexpected = {r: n for r, n in counts.items() if not r.startswith(EXPECTED)}
        return unexpected | ({"no response": lost} if lost else {})


@dataclass(frozen=True)
class OverloadResult:
    """All measurements of gRPC or REST; `rss_mb` is before the overload and at most."""

    transport: str
    before: LoadResult
    capacity: LoadResult
    overload: LoadResult
    after: LoadResult
    rss_mb: tuple[float, float]
    offered_per_s: float

    @property
    def failures(self) -> dict[str, int]:
        counts = dict(self.overload.failures)
        for name in ("before", "capacity", "after"):
            load = getattr(self, name)
            if rejected := load.requests - len(load.ok_ms):
                counts[f"not OK {name}"] = rejected
        return counts


def overload(server: Server, transport: str, request, plan: Plan) -> OverloadResult:
    """Measures one client, the capacity, the overload, and one client again."""
    if transport == "gRPC":
        target, path, body = server.grpc, METHOD, request.SerializeToString()
    else:
        target, body = server.rest, to_json(request)
        path = f"/v1/models/{request.model_spec.name}:predict"
    with tempfile.NamedTemporaryFile() as file, Watch(server.pid, 0.1) as watch:
        file.write(body)
        file.flush()
        flags = _flags(transport=transport, target=target, path=path, body=file.name)

        def send(seconds, in_flight):
            settings = _flags(seconds=seconds, in_flight=in_flight)
            return run_clients([*flags, *settings], 1)

        send(plan.short_s / 2, plan.in_flight)  # warms up
        before = send(plan.short_s, 1)
        capacity = send(plan.short_s, plan.in_flight)
        before_mb = watch.samples[-1].rss_mb
        rate = min(plan.times * capacity.ok_per_s, MAX_REQUESTS / plan.seconds)
        settings = _flags(
            seconds=plan.seconds,
            rate=rate / plan.clients,
            in_flight=MAX_IN_FLIGHT[transport] // plan.clients,
            timeout=TIMEOUT_S if transport == "gRPC" else REST_TIMEOUT_S,
        )
        load = run_clients([*flags, *settings], plan.clients)
        time.sleep(plan.rest_s)
        after = send(plan.short_s, 1)
        rss_mb = before_mb, bounds(watch.samples, "rss_mb")[1]
    per_s = load.requests / plan.seconds
    return OverloadResult(transport, before, capacity, load, after, rss_mb, per_s)


def _flags(**settings) -> list[str]:
    """Returns settings as flags of `benchmarks.open_loop`."""
    flags = []
    for name, value in settings.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


def run_clients(flags: list[str], count: int) -> LoadResult:
    """Runs client processes at once and adds up their results."""
    command = [sys.executable, "-m", "benchmarks.open_loop", *flags]
    root = Path(__file__).parents[1]
    clients = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        for _ in range(count)
    ]
    total, all_times_ms = LoadResult(0, 0, 0.0, {}), defaultdict(list)
    for client in clients:
        output, _ = client.communicate()
        if client.returncode:
            sys.exit("A client has failed.")
        result = LoadResult(**json.loads(output))
        for reason, times_ms in result.times_ms.items():
            all_times_ms[reason] += times_ms
        total = replace(
            total,
            requests=total.requests + result.requests,
            held_back=total.held_back + result.held_back,
            seconds=max(total.seconds, result.seconds),
        )
    return replace(total, times_ms=dict(all_times_ms))


def print_result(result: OverloadResult, plan: Plan) -> None:
    """Prints the table of gRPC or REST."""
    load, capacity = result.overload, result.capacity
    print(f"\n{result.transport}")
    print("                                      per second   p50 ms   p99 ms")
    _print_load("one client, before", result.before)
    _print_load(f"capacity: {plan.in_flight} in flight", capacity)
    _print_load("overload: results", load)
    for reason, times_ms in sorted(load.times_ms.items()):
        if reason != "OK":
            _print_row(f"  {reason}", len(times_ms) / load.seconds, times_ms)
    _print_load("one client, after", result.after)
    print(
        f"offered {result.offered_per_s:,.0f} per second, "
        f"{result.offered_per_s / capacity.ok_per_s:.1f} times the capacity "
        f"({load.held_back} more held back by the client); "
        f"goodput {load.ok_per_s / capacity.ok_per_s:.2f} of the capacity"
    )
    before, after = (percentile(a.ok_ms, 0.5) for a in (result.before, result.after))
    print(
        f"p50 of one client after against before: {after / before:.2f}; "
        f"memory {result.rss_mb[0]:.0f} MB before, at most {result.rss_mb[1]:.0f} MB"
    )


def _print_load(name: str, load: LoadResult) -> None:
    _print_row(name, load.ok_per_s, load.ok_ms)


def _print_row(name: str, per_s: float, times_ms: list[float]) -> None:
    p50, p99 = (percentile(times_ms, s) if times_ms else 0.0 for s in (0.5, 0.99))
    print(f"{name:38.38s}  {per_s:8,.1f}  {p50:7.1f}  {p99:7.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, required=True, help="versions of a run")
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--times", type=float, default=Plan.times, help="the capacity")
    parser.add_argument("--clients", type=int, default=Plan.clients, help="processes")
    parser.add_argument("--transports", nargs="+", default=["gRPC", "REST"])
    flags = parser.parse_args()
    plan = Plan(seconds=flags.seconds, times=flags.times, clients=flags.clients)
    export, failures = flags.export.resolve(), {}
    request = warmup_row(export)
    with start_server("overload", export, *FLAGS, batching=BATCHING) as server:
        for transport in flags.transports:
            result = overload(server, transport, request, plan)
            print_result(result, plan)
            failures |= {f"{transport} {k}": n for k, n in result.failures.items()}
    if failures:
        sys.exit(f"Failures: {failures}")


if __name__ == "__main__":
    main()
