"""The server for minutes, asked without a pause while its versions come and go.

Clients ask both doors; every --change-seconds a version appears, every third one
broken, and some are taken away. Each request has to get the answer that the export
itself gives, each version that loads has to serve, and memory, files and threads have
to stay what they are.
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
from benchmarks.serving_load import BATCHING, Server, json_of, started, warmup_row
from benchmarks.version_changes import Releases
from mmkeras.export.saved_model_session import loaded

FLAGS = ("--monitoring", "--load-retries", "1", "--load-retry-seconds", "1")
REQUEST_S = 60.0
SETTLE_S = 60.0  # for a change to be seen
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.END


@dataclass(frozen=True)
class Plan:
    """How much is asked.

    Attributes:
        seconds: All of it.
        change_s: From one change of versions to the next.
        clients: At each door.
        pause_s: Between an answer and the client's next request.
    """

    seconds: float = 600.0
    change_s: float = 20.0
    clients: int = 4
    pause_s: float = 0.05


@dataclass
class Report:
    """What has happened.

    Attributes:
        times_ms: {door: ms of each request that had the right answer}.
        wrong: What the others had.
        versions: Those that have answered, one for each answer by gRPC.
        changes: (kind, version, seconds until it was so).
        missed: Changes that the server did not make.
        samples: Its process over time.
    """

    times_ms: dict[str, list[float]] = field(
        default_factory=lambda: {"gRPC": [], "REST": []}
    )
    wrong: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    changes: list[tuple[str, int, float]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def soak(server: Server, releases: Releases, request, plan: Plan) -> Report:
    """Asks a server that serves `releases` as "mmkeras", and changes them."""
    report, over = Report(), threading.Event()
    expected = answer_of(releases.base / str(releases.newest), request)
    clients = [
        threading.Thread(target=_keep_asking, args=(door, over, plan.pause_s, report))
        for door in (
            *(_GrpcClient(server.grpc, request, expected) for _ in range(plan.clients)),
            *(_RestClient(server.rest, request, expected) for _ in range(plan.clients)),
        )
    ]
    with Watch(server.pid) as watch:
        for client in clients:
            client.start()
        try:
            _change(server, releases, plan, report)
        finally:
            over.set()
            for client in clients:
                client.join()
    report.samples = watch.samples
    return report


def answer_of(version: Path, request) -> dict[str, np.ndarray]:
    """Returns what the export answers by itself."""
    name = request.model_spec.signature_name or "serving_default"
    feeds = {k: tf.make_ndarray(tensor) for k, tensor in request.inputs.items()}
    with loaded(version) as call:
        return call(name, feeds)


def agrees(found: dict, expected: dict[str, np.ndarray]) -> bool:
    """Whether two answers are the same; batches change the last bits of a float."""
    if found.keys() != expected.keys():
        return False
    for name, array in expected.items():
        other = np.asarray(found[name])
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
    door = "gRPC"

    def __init__(self, target: str, request, expected):
        self._request, self._expected = request, expected
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(target, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.close = channel.close

    def ask(self) -> tuple[bool, int | None]:
        """Returns whether the answer is right, and the version that gave it."""
        response = self._stub.Predict(self._request, timeout=REQUEST_S)
        found = {k: tf.make_ndarray(tensor) for k, tensor in response.outputs.items()}
        return agrees(found, self._expected), response.model_spec.version.value


class _RestClient:
    door = "REST"

    def __init__(self, target: str, request: predict_pb2.PredictRequest, expected):
        self._path = f"/v1/models/{request.model_spec.name}:predict"
        self._body, self._expected = json_of(request), expected
        self._connection = http.client.HTTPConnection(target, timeout=REQUEST_S)
        self.close = self._connection.close

    def ask(self) -> tuple[bool, None]:
        """Returns whether the answer is right; it does not say which version it is."""
        self._connection.request("POST", self._path, self._body)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {body.decode()}")
        rows = json.loads(body)["predictions"]
        if len(self._expected) == 1:
            found = {name: rows for name in self._expected}
        else:
            found = {name: [row[name] for row in rows] for name in rows[0]}
        return agrees(found, self._expected), None


def _keep_asking(client, over: threading.Event, pause_s: float, report: Report) -> None:
    while not over.wait(pause_s):
        start_s = time.perf_counter()
        try:
            right, version = client.ask()
        except (grpc.RpcError, OSError, http.client.HTTPException) as error:
            text = error.details() if isinstance(error, grpc.RpcError) else str(error)
            report.wrong.append(f"{client.door}: {type(error).__name__} {text}")
            continue
        if right:
            ms = 1e3 * (time.perf_counter() - start_s)
            report.times_ms[client.door].append(ms)
        else:
            report.wrong.append(f"{client.door}: another answer, of version {version}")
        if version is not None:
            report.versions.append(version)
    client.close()


def _change(server: Server, releases: Releases, plan: Plan, report: Report) -> None:
    """Changes versions until the time is over; each has to be seen in time."""
    end_s, step = time.monotonic() + plan.seconds, 0
    with grpc.insecure_channel(server.grpc) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        spec = get_model_status_pb2.GetModelStatusRequest(
            model_spec={"name": "mmkeras"}
        )

        def states():
            answer = stub.GetModelStatus(spec, timeout=REQUEST_S)
            return {status.version: status for status in answer.model_version_status}

        while time.monotonic() + plan.change_s <= end_s:
            step, start_s = step + 1, time.monotonic()
            kind, version = releases.change(step)
            if _eventually(lambda k=kind, v=version: _is_so(k, v, releases, states())):
                took_s = time.monotonic() - start_s
                report.changes.append((kind, version, took_s))
            else:
                report.missed.append(f"{kind} {version}: {states().get(version)}")
            time.sleep(max(0.0, start_s + plan.change_s - time.monotonic()))


def _is_so(kind: str, version: int, releases: Releases, states: dict) -> bool:
    """Whether the newest version serves alone, and a broken one has failed."""
    serving = {v for v, status in states.items() if status.state == AVAILABLE}
    if serving != {releases.newest}:
        return False
    if kind != "broken":
        return True
    broken = states.get(version)
    return bool(broken and broken.state == END and broken.status.error_code)


def _eventually(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + SETTLE_S
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.2)
    return False


def show(report: Report, plan: Plan) -> None:
    """Prints what has happened."""
    right = sum(map(len, report.times_ms.values()))
    print(
        f"requests: {right + len(report.wrong):,}; without the right answer: ", end=""
    )
    print(len(report.wrong), *report.wrong[:5], sep="\n  " if report.wrong else "")
    for door, times_ms in report.times_ms.items():
        p50, p99 = percentile(times_ms, 0.5), percentile(times_ms, 0.99)
        rate = len(times_ms) / plan.seconds
        print(
            f"{door}: {rate:.1f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms, ", end=""
        )
        print(f"longest {max(times_ms):.0f} ms")
    kinds = Counter(kind for kind, *_ in report.changes)
    longest = max(took_s for *_, took_s in report.changes)
    print("changes:", ", ".join(f"{n} {kind}" for kind, n in kinds.items()), end="; ")
    print(f"the longest was done after {longest:.1f} s; missed: {len(report.missed)}")
    print(*report.missed, sep="\n", end="\n" if report.missed else "")
    answered = sorted(Counter(report.versions).items())
    print("answers by version:", ", ".join(f"{v}: {n}" for v, n in answered))
    half = late(report.samples)
    print("                 start      end  second half: growth a minute    range")
    for noun in ("rss_mb", "files", "threads"):
        low, high = bounds(half, noun)
        first, last = (getattr(report.samples[i], noun) for i in (0, -1))
        print(f"{noun:12s}  {first:8,.0f} {last:8,.0f}  ", end="")
        print(f"{growth(half, noun):28.2f}  {low:,.0f} to {high:,.0f}", flush=True)


def failures(report: Report, most_mb: float) -> list[str]:
    """Returns what is not as it has to be."""
    found = list(report.missed)
    if report.wrong:
        found.append(f"{len(report.wrong)} requests without the right answer")
    served = {v for kind, v, _ in report.changes if kind != "broken"}
    if silent := served - set(report.versions):
        found.append(f"versions that never answered: {sorted(silent)}")
    half = late(report.samples)
    for noun, most in (("rss_mb", most_mb), ("files", 1.0), ("threads", 1.0)):
        if (grown := growth(half, noun)) > most:
            found.append(f"{noun} grow by {grown:.2f} a minute")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, required=True, help="versions of a run")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--change-seconds", type=float, default=Plan.change_s)
    parser.add_argument("--clients", type=int, default=Plan.clients, help="a door")
    parser.add_argument("--most-mb", type=float, default=1.0, help="growth a minute")
    parser.add_argument("--samples", type=Path, help="CSV to write: memory over time")
    words = parser.parse_args()
    plan = Plan(60 * words.minutes, words.change_seconds, words.clients)
    export = words.export.resolve()
    request = warmup_row(export)
    request.model_spec.name = "mmkeras"
    newest = max(int(p.name) for p in export.iterdir() if p.name.isdecimal())
    with tempfile.TemporaryDirectory() as folder:
        batching = Path(folder) / "batching.config"
        batching.write_text(BATCHING)
        releases = Releases(Path(folder) / "base", export / str(newest))
        flags = (*FLAGS, "--batching-parameters-file", str(batching))
        with started("soak", releases.base, *flags) as server:
            report = soak(server, releases, request, plan)
    if words.samples:
        lines = [
            f"{s.at_s:.1f},{s.rss_mb:.1f},{s.files},{s.threads}" for s in report.samples
        ]
        words.samples.write_text("\n".join(["s,rss_mb,files,threads", *lines, ""]))
    show(report, plan)
    if found := failures(report, words.most_mb):
        sys.exit("; ".join(found))


if __name__ == "__main__":
    main()
