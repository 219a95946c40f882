"""Throughput of the server, with and without batching.

h2load (gRPC) and hey (REST) send requests of one row, 1 to 128 in flight, to two
servers in turn, or to a running server (`--target`).
"""

import argparse
import base64
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks.load_tools import Load, grpc_load, rest_load
from mmkeras.files import latest_version
from mmkeras.schema import WARMUP_FILE

METHOD = "tensorflow.serving.PredictionService/Predict"
START_S = 180
PROBE = 4  # warm-up requests per request in flight, which measure the rate
BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""


@dataclass(frozen=True)
class Server:
    """Addresses of a server under load, and its process id if it was started here."""

    name: str
    grpc: str
    rest: str | None
    pid: int | None = None


@contextmanager
def start_server(
    name: str, export: Path, *flags: str, batching: str = "", **popen: Any
) -> Iterator[Server]:
    """Serves `export` as the model "mmkeras".

    Args:
        name: Name of the server in tables.
        export: Folder with versions.
        flags: More flags of the server.
        batching: Text proto with the settings of batching; empty: none.
        popen: Arguments of `subprocess.Popen`, as `cwd` and `env`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "serving.server", *flags]
        command += ["--model", f"mmkeras={export}", "--port", "0", "--rest-port", "0"]
        if batching:
            file = Path(folder) / "batching.config"
            file.write_text(batching)
            command += ["--batching-parameters-file", str(file)]
        log = Path(folder) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, **popen)
        try:
            end_s = time.monotonic() + START_S
            while not re.search(r"^Serving: ", log.read_text(), re.MULTILINE):
                if process.poll() is not None or time.monotonic() > end_s:
                    sys.exit(f"The server does not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            lines = re.findall(r"^(gRPC|REST): +(\S+:\d+)$", log.read_text(), re.M)
            addresses = dict(lines)
            yield Server(name, addresses["gRPC"], addresses["REST"], process.pid)
        finally:
            process.terminate()
            process.wait()


def warmup_row(export: Path) -> predict_pb2.PredictRequest:
    """Returns the first row of the newest version's first warm-up request."""
    records = tf.data.TFRecordDataset(str(latest_version(export) / WARMUP_FILE))
    record = next(records.as_numpy_iterator())
    request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
    request.model_spec.name = "mmkeras"
    for name, tensor in request.inputs.items():
        row = tf.make_ndarray(tensor)[:1]
        request.inputs[name].CopyFrom(tf.make_tensor_proto(row, tensor.dtype))
    return request


def build_request(row: dict[str, bytes]) -> predict_pb2.PredictRequest:
    """Returns a request of one row, which may lack modalities."""
    request = predict_pb2.PredictRequest()
    for name in ("text", "image", "audio"):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([row.get(name, b"")]))
    return request


def to_json(request: predict_pb2.PredictRequest) -> bytes:
    """Returns the REST body of a request of one row."""
    row = {}
    for name, tensor in request.inputs.items():
        value = tf.make_ndarray(tensor)[0]
        if isinstance(value, bytes):
            row[name] = {"b64": base64.b64encode(value).decode()}
        else:
            row[name] = value.tolist()
    signature = request.model_spec.signature_name
    return json.dumps({"signature_name": signature, "instances": [row]}).encode()


def measure(server: Server, transport: str, request, in_flight: int, arguments) -> Load:
    """Sends at most `arguments.requests` requests, for about `arguments.seconds`."""
    if transport == "gRPC":
        with grpc.insecure_channel(server.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            response = stub.Predict(request, timeout=60).SerializeToString()

        def send(count):
            message = request.SerializeToString()
            words = (server.grpc, METHOD, message, response)
            return grpc_load(*words, count=count, in_flight=in_flight)
    else:
        url = f"http://{server.rest}/v1/models/{request.model_spec.name}:predict"

        def send(count):
            return rest_load(url, to_json(request), count=count, in_flight=in_flight)

    rate = send(PROBE * in_flight).per_s
    rounds = min(arguments.requests, rate * arguments.seconds) // in_flight
    return send(in_flight * max(PROBE, int(rounds)))


def compare(servers: list[Server], request, arguments) -> None:
    """Prints the table and, for two servers, the ratios of their rates."""
    print("API   in flight  server            requests/s   p50 ms   p99 ms  failed")
    ratios = []
    for transport in ("gRPC", "REST"):
        for in_flight in arguments.in_flight:
            rates = []
            for server in servers:
                if transport == "REST" and server.rest is None:
                    continue
                load = measure(server, transport, request, in_flight, arguments)
                rates.append(load.per_s)
                print(
                    f"{transport}  {in_flight:9d}  {server.name:16s}  "
                    f"{load.per_s:10,.1f}  {load.p50_ms:7.1f}  {load.p99_ms:7.1f}  "
                    f"{load.failed} of {load.requests}",
                    flush=True,
                )
            if len(rates) == 2 and rates[0]:
                ratios.append(f"{transport} {in_flight}: {rates[1] / rates[0]:.2f}")
    if ratios:
        print(f"{servers[1].name} against {servers[0].name}: {', '.join(ratios)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, help="folder with versions")
    parser.add_argument("--target", help="HOST:PORT of a running server's gRPC")
    parser.add_argument("--rest", help="HOST:PORT of its REST API")
    parser.add_argument("--model", default="mmkeras", help="model name on it")
    parser.add_argument("--batching", type=Path, help="batching of the second server")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--requests", type=int, default=5_000, help="maximum per line")
    parser.add_argument("--seconds", type=float, default=5.0, help="time per line")
    for name in ("image", "audio"):
        parser.add_argument(f"--{name}", type=Path, help="file of the row")
    parser.add_argument("--text", help="text of the row; default: warm-up request")
    arguments = parser.parse_args()
    if arguments.export is None and arguments.target is None:
        parser.error("--export or --target is required")
    return arguments


def choose_request(arguments: argparse.Namespace) -> predict_pb2.PredictRequest:
    files = {name: getattr(arguments, name) for name in ("image", "audio")}
    row = {name: path.read_bytes() for name, path in files.items() if path}
    if arguments.text:
        row["text"] = arguments.text.encode()
    if not row and arguments.export is None:
        sys.exit("A row is required: --export, or any of --text, --image, --audio.")
    request = build_request(row) if row else warmup_row(arguments.export)
    request.model_spec.name = arguments.model if arguments.target else "mmkeras"
    return request


def main() -> None:
    flags = parse()
    request = choose_request(flags)
    with ExitStack() as stack:
        if flags.target:
            servers = [Server(flags.model, flags.target, flags.rest)]
        else:
            export = flags.export.resolve()
            batching = flags.batching.read_text() if flags.batching else BATCHING
            starts = {"without batching": "", "with batching": batching}
            servers = [
                stack.enter_context(start_server(name, export, batching=settings))
                for name, settings in starts.items()
            ]
        compare(servers, request, flags)


if __name__ == "__main__":
    main()
