"""Soak test of the server: constant requests for minutes while versions change.

Clients use gRPC and REST. Every --change-seconds a version is added, every third one
broken, and some are removed. Each request must get the export's own prediction, each
valid version must serve, and memory, files and threads must stay constant.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks.load_tools import percentile
from benchmarks.process_watch import Sample, Watch, bounds, growth, late
from benchmarks.serving_load import BATCHING, Server, start_server, to_json, warmup_row
from benchmarks.version_changes import Releases
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.files import latest_version

FLAGS = ("--monitoring", "--load-retries", "1", "--load-retry-seconds", "1")
REQUEST_S = 60.0
SETTLE_S = 60.0  # maximum time of a change of versions
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.END


@dataclass(frozen=True)
class Plan:
    """Settings of the test.

    Attributes:
        seconds: Total duration.
        change_s: Interval between changes of versions.
        clients: Clients per transport.
        pause_s: Pause of a client between requests.
    """

    seconds: float = 600.0
    change_s: float = 20.0
    clients: int = 4
    pause_s: float = 0.05


@dataclass
class Report:
    """Results of the test.

    Attributes:
        times_ms: {transport: ms per correct request}; the others are in `failures`.
        versions: Version of each gRPC response.
        changes: (kind, version, seconds until the server had applied it).
        missed: Changes that the server did not apply.
    """

    times_ms: dict[str, list[float]] = field(
        default_factory=lambda: {"gRPC": [], "REST": []}
    )
    failures: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    changes: list[tuple[str, int, float]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def soak(server: Server, releases: Releases, request, plan: Plan) -> Report:
    """Sends requests to a server of `releases` as "mmkeras", and changes versions."""
    report, stop = Report(), threading.Event()
    expected = direct_prediction(releases.base / str(releases.newest), request)
    threads = [
        threading.Thread(
            target=_send_until_stopped,
            args=(client(target, request, expected), stop, plan.pause_s, report),
        )
        for client, target in ((_GrpcClient, server.grpc), (_RestClient, server.rest))
        for _ in range(plan.clients)
    ]
    with Watch(server.pid) as watch:
        for thread in threads:
            thread.start()
        try:
            _change_versions(server, releases, plan, report)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    report.samples = watch.samples
    return report


def direct_prediction(version: Path, request) -> dict[str, np.ndarray]:
    """Returns the outputs of the export without a server."""
    name = request.model_spec.signature_name or "serving_default"
    feeds = {k: tf.make_ndarray(tensor) for k, tensor in request.inputs.items()}
    with load_saved_model(version) as call:
        return call(name, feeds)


def is_close(outputs: dict, expected: dict[str, np.ndarray]) -> bool:
    """Whether outputs are equal, up to the last bits that batching changes."""
    if outputs.keys() != expected.keys():
        return False
    for name, array in expected.items():
        other = np.asarray(outputs[name])
        if other.shape != array.shape:
            return False
        if array.dtype == object:
            same = [_text(v) for v in other.flat] == [_text(v) for v in array.flat]
        else:
            same = np.allclose(other, array, rtol=1e-4, atol=1e-5)
        if not same:
            return False
    return True


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _GrpcClient:
    transport = "gRPC"

    def __init__(self, target: str, request, expected):
        self._request, self._expected = request, expected
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(target, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.close = channel.close

    def send(self) -> tuple[bool, int | None]:
        """Returns whether the response is correct, and its version."""
        response = self._stub.Predict(self._request, timeout=REQUEST_S)
        outputs = {k: tf.make_ndarray(tensor) for k, tensor in response.outputs.items()}
        return is_close(outputs, self._expected), response.model_spec.version.value


class _RestClient:
    transport = "REST"

    def __init__(self, target: str, request: predict_pb2.PredictRequest, expected):
        self._path = f"/v1/models/{request.model_spec.name}:predict"
        self._body, self._expected = to_json(request), expected
        self._connection = http.client.HTTPConnection(target, timeout=REQUEST_S)
        self.close = self._connection.close

    def send(self) -> tuple[bool, None]:
        """Returns whether the response is correct; it has no version."""
        self._connection.request("POST", self._path, self._body)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise OSError(f"{response.status} {body.decode()}")
        rows = json.loads(body)["predictions"]
        if len(self._expected) == 1:
            outputs = {name: rows for name in self._expected}
        else:
            outputs = {name: [row[name] for row in rows] for name in rows[0]}
        return is_close(outputs, self._expected), None


def _send_until_stopped(
    client, stop: threading.Event, pause_s: float, report: Report
) -> None:
    name = client.transport
    while not stop.wait(pause_s):
        start_s = time.perf_counter()
        try:
            is_correct, version = client.send()
        except (grpc.RpcError, OSError, http.client.HTTPException) as error:
            text = error.details() if isinstance(error, grpc.RpcError) else str(error)
            report.failures.append(f"{name}: {type(error).__name__} {text}")
            continue
        if is_correct:
            report.times_ms[name].append(1e3 * (time.perf_counter() - start_s))
        else:
            report.failures.append(f"{name}: another prediction, of version {version}")
        if version is not None:
            report.versions.append(version)
    client.close()


def _change_versions(
    server: Server, releases: Releases, plan: Plan, report: Report
) -> None:
    end_s, step = time.monotonic() + plan.seconds, 0
    with grpc.insecure_channel(server.grpc) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "mmkeras"

        def states():
            response = stub.GetModelStatus(request, timeout=REQUEST_S)
            return {status.version: status for status in response.model_version_status}

        while time.monotonic() + plan.change_s <= end_s:
            step, start_s = step + 1, time.monotonic()
            kind, version = releases.change(step)

            def is_applied(kind=kind, version=version):
                return _is_applied(kind, version, releases.newest, states())

            if _wait_until(is_applied):
                took_s = time.monotonic() - start_s
                report.changes.append((kind, version, took_s))
            else:
                report.missed.append(f"{kind} {version}: {states().get(version)}")
            time.sleep(max(0.0, start_s + plan.change_s - time.monotonic()))


def _is_applied(kind: str, version: int, newest: int, states: dict) -> bool:
    """Whether only the newest version is available, and a broken one has failed."""
    available = {v for v, status in states.items() if status.state == AVAILABLE}
    if available != {newest}:
        return False
    if kind != "broken":
        return True
    broken = states.get(version)
    return bool(broken and broken.state == END and broken.status.error_code)


def _wait_until(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + SETTLE_S
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.2)
    return False


def print_report(report: Report, plan: Plan) -> None:
    """Prints the results."""
    count = sum(map(len, report.times_ms.values())) + len(report.failures)
    print(f"requests: {count:,}; failures: {len(report.failures)}")
    for failure in report.failures[:5]:
        print(f"  {failure}")
    for transport, times_ms in report.times_ms.items():
        p50, p99 = percentile(times_ms, 0.5), percentile(times_ms, 0.99)
        print(
            f"{transport}: {len(times_ms) / plan.seconds:.1f} per second, "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(times_ms):.0f} ms"
        )
    kinds = Counter(kind for kind, *_ in report.changes)
    longest_s = max(took_s for *_, took_s in report.changes)
    print(
        f"changes: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}; "
        f"the longest took {longest_s:.1f} s; missed: {len(report.missed)}"
    )
    for change in report.missed:
        print(change)
    versions = sorted(Counter(report.versions).items())
    print("responses by version:", ", ".join(f"{v}: {n}" for v, n in versions))
    half = late(report.samples)
    print("                 start      end  second half: growth per minute  range")
    for noun in ("rss_mb", "files", "threads"):
        low, high = bounds(half, noun)
        first, last = (getattr(report.samples[i], noun) for i in (0, -1))
        print(
            f"{noun:12s}  {first:8,.0f} {last:8,.0f}  {growth(half, noun):28.2f}  "
            f"{low:,.0f} to {high:,.0f}",
            flush=True,
        )


def list_failures(report: Report, limit_mb: float) -> list[str]:
    """Returns the failures; `limit_mb` is the allowed growth of memory per minute."""
    problems = list(report.missed)
    if report.failures:
        problems.append(f"{len(report.failures)} requests without a correct response")
    valid = {v for kind, v, _ in report.changes if kind != "broken"}
    if unused := valid - set(report.versions):
        problems.append(f"versions without a response: {sorted(unused)}")
    half = late(report.samples)
    for noun, limit in (("rss_mb", limit_mb), ("files", 1.0), ("threads", 1.0)):
        if (per_minute := growth(half, noun)) > limit:
            problems.append(f"{noun} grow by {per_minute:.2f} per minute")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, required=True, help="versions of a run")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--change-seconds", type=float, default=Plan.change_s)
    parser.add_argument("--clients", type=int, default=Plan.clients)
    text = "allowed growth per minute"
    parser.add_argument("--max-growth-mb", type=float, default=1.0, help=text)
    parser.add_argument("--samples", type=Path, help="CSV to write: memory over time")
    flags = parser.parse_args()
    plan = Plan(60 * flags.minutes, flags.change_seconds, flags.clients)
    export = flags.export.resolve()
    request = warmup_row(export)
    with tempfile.TemporaryDirectory() as folder:
        releases = Releases(Path(folder) / "base", latest_version(export))
        base = releases.base
        with start_server("soak", base, *FLAGS, batching=BATCHING) as server:
            report = soak(server, releases, request, plan)
    if flags.samples:
        lines = ["s,rss_mb,files,threads"]
        for s in report.samples:
            lines.append(f"{s.at_s:.1f},{s.rss_mb:.1f},{s.files},{s.threads}")
        flags.samples.write_text("\n".join([*lines, ""]))
    print_report(report, plan)
    if problems := list_failures(report, flags.max_growth_mb):
        sys.exit("; ".join(problems))


if __name__ == "__main__":
    main()
