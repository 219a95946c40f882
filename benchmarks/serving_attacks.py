"""Memory, CPU time and responses of the server under attack.

Each attack of `benchmarks.attacks` meets a new server with the default limits, while
two other clients, one per API, send small requests. `--baseline-tree` measures another
checkout of the project as well.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks.attacks import ATTACKS, CLASSIFIER, MODEL, TIMEOUT_S, run_attack
from benchmarks.process_watch import (
    cpu_s,
    deleted_mib,
    memory_mib,
    process_tree,
    reset_peak,
)
from benchmarks.serving_load import Server, start_server
from tests.serving.models import save_halves, save_shared

FLAGS = ("--monitoring", "--rest-timeout-seconds", str(TIMEOUT_S))
FLAGS += ("--drain-seconds", "0")
_PROBE_EVERY_S = 0.1  # of each API
_PROBE_TIMEOUT_S = 10.0
_WARMUP_S = 2.0
_AFTER_S = 1.0


@dataclass(frozen=True)
class Result:
    """Measurement of one attack.

    Attributes:
        memory_mib: Peak memory above the idle memory.
        disk_mib: Maximum size of temporary files.
        cpu_s: CPU time during the attack, with that of the probes.
        after_s: CPU time in the second after it.
        slowest_ms: Slowest response of the probes.
        failures: Codes of the probes that failed.
        outcomes: {outcome: number of attacking clients}.
    """

    memory_mib: float
    disk_mib: float
    cpu_s: float
    after_s: float
    slowest_ms: float
    failures: Counter[str]
    outcomes: dict[str, int]


class Probe:
    """Context that sends requests in a thread and measures the responses."""

    def __init__(self, send: Callable[[], str], delay_s: float = 0.0):
        self.times_s, self.failures = [0.0], Counter()
        self._send, self._delay_s = send, delay_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Probe":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = self._delay_s
        while not self._over.wait(wait_s):
            start_s = time.monotonic()
            outcome = self._send()
            self.times_s.append(time.monotonic() - start_s)
            if outcome != "OK":
                self.failures[outcome] += 1
            wait_s = max(0.0, _PROBE_EVERY_S - self.times_s[-1])


def grpc_probe(channel: grpc.Channel) -> Callable[[], str]:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))

    def send() -> str:
        try:
            stub.Predict(request, timeout=_PROBE_TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    return send


def rest_probe(address: str) -> Callable[[], str]:
    """Returns the sender of REST requests, each on a new connection."""
    url = f"http://{address}/v1/models/{MODEL}:predict"
    body = json.dumps({"instances": [1.0, 2.0]}).encode()

    def send() -> str:
        try:
            with urllib.request.urlopen(url, body, _PROBE_TIMEOUT_S) as response:
                response.read()
        except urllib.error.HTTPError as error:
            return str(error.code)
        except OSError as error:
            reason = getattr(error, "reason", error)
            is_late = isinstance(reason, TimeoutError)
            return "timeout" if is_late else "connection lost"
        return "OK"

    return send


def measure(server: Server, name: str, clients: ProcessPoolExecutor) -> Result | None:
    """Runs an attack on a server; returns None if the server has ended."""
    with grpc.insecure_channel(server.grpc) as channel:
        probes = grpc_probe(channel), rest_probe(server.rest)
        end_s = time.monotonic() + _WARMUP_S
        while time.monotonic() < end_s:
            for send in probes:
                send()
        pids = process_tree(server.pid)
        idle_mib, start_s, disk_mib = memory_mib(pids), cpu_s(pids), 0.0
        reset_peak(pids)
        by_grpc, by_rest = Probe(probes[0]), Probe(probes[1], _PROBE_EVERY_S / 2)
        with by_grpc, by_rest:
            attack = clients.submit(run_attack, name, server.grpc, server.rest)
            while not wait([attack], _PROBE_EVERY_S).done:
                disk_mib = max(disk_mib, deleted_mib(pids))
        outcomes = attack.result()
        try:
            during_s = cpu_s(pids) - start_s
            time.sleep(_AFTER_S)
            pids = process_tree(server.pid)
            after_s = cpu_s(pids) - start_s - during_s
            peak_mib = memory_mib(pids, "VmHWM")
        except (OSError, TypeError):  # no such process, or no memory in its status
            return None
    return Result(
        memory_mib=peak_mib - idle_mib,
        disk_mib=disk_mib,
        cpu_s=during_s,
        after_s=after_s,
        slowest_ms=1000 * max(by_grpc.times_s + by_rest.times_s),
        failures=by_grpc.failures + by_rest.failures,
        outcomes=outcomes,
    )


@contextmanager
def start_servers(
    trees: list[Path], export: Path, classifier: Path
) -> Iterator[list[Server]]:
    """Starts a server of each checkout, all at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(trees)) as threads:

        def start(tree: Path) -> Server:
            path = f"{tree}:{os.environ.get('PYTHONPATH', '')}"
            process = {"cwd": tree, "env": {**os.environ, "PYTHONPATH": path}}
            models = ("--model", f"{CLASSIFIER}={classifier}")
            server = start_server(tree.name, export, *FLAGS, *models, **process)
            return stack.enter_context(server)

        yield list(threads.map(start, trees))


def columns(result: Result | None) -> list[str]:
    """Returns the columns of memory, CPU time, probes and outcome."""
    if result is None:
        return ["", "", "", "the server ended"]
    memory = f"{result.memory_mib:,.0f}"
    if result.disk_mib >= 1:
        memory += f" (and {result.disk_mib:,.0f} on disk)"
    cpu = f"{result.cpu_s:.1f} + {result.after_s:.1f}"
    probe = f"{result.slowest_ms:,.0f}"
    if result.failures:
        probe += f" ({_format_counts(result.failures)})"
    return [memory, cpu, probe, _format_counts(result.outcomes)]


def _format_counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{n} {name}" if n > 1 else name for name, n in ordered)


def print_header(trees: list[Path]) -> None:
    nouns = ["memory, MiB", "CPU, s", "slowest probe, ms", "responses"]
    titles = ["attack"]
    for noun in nouns:
        times = ("before", "after") if len(trees) > 1 else ("",)
        titles += [f"{noun} {time}".strip() for time in times]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--baseline-tree", type=Path, help="measured before it")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names")
    return parser.parse_args()


def main() -> None:
    flags = parse()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server's too
    trees = [flags.baseline_tree, flags.tree] if flags.baseline_tree else [flags.tree]
    print_header(trees)
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as clients,
    ):
        export = save_halves(Path(folder, "halves"))
        classifier = save_shared(Path(folder, "shared"))
        for name in ATTACKS:
            if not any(part in name for part in flags.only):
                continue
            with start_servers(trees, export, classifier) as servers:
                rows = [columns(measure(server, name, clients)) for server in servers]
            cells = [cell for pair in zip(*rows, strict=True) for cell in pair]
            print(f"| {' | '.join([name, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
