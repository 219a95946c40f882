"""Requests a second that the server answers, with batching against without.

h2load asks by gRPC and hey by REST, both one row a request, 1 to 128 in flight. Two
servers are started and asked in turn; `--target` asks one that runs already.
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

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks.load_tools import Load, grpc_load, rest_load
from mmkeras.schema import AUDIO, IMAGE, TEXT, WARMUP_FILE

METHOD = "tensorflow.serving.PredictionService/Predict"
START_S = 180
PROBE = 4  # requests for each one in flight, to learn the rate and to warm up
BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""


@dataclass(frozen=True)
class Server:
    """A server under load; `rest` is None where it has no such door.

    Attributes:
        pid: Its process, if it was started here.
    """

    name: str
    grpc: str
    rest: str | None
    pid: int | None = None


@contextmanager
def started(name: str, export: Path, *flags: str) -> Iterator[Server]:
    """Starts the twin over `export`, as the model "mmkeras"."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.server", "--model", f"mmkeras={export}"]
            + ["--port", "0", "--rest-port", "0", *flags],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            end = time.monotonic() + START_S
            said = ""
            while not re.search(r"^Serving: ", said, re.MULTILINE):
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"The server does not start:\n{said[-2000:]}")
                time.sleep(0.1)
                log.seek(0)
                said = log.read()
            doors = dict(re.findall(r"^(gRPC|REST): +(\S+:\d+)$", said, re.MULTILINE))
            yield Server(name, doors["gRPC"], doors["REST"], process.pid)
        finally:
            process.terminate()
            process.wait()


def warmup_row(export: Path) -> predict_pb2.PredictRequest:
    """Returns the first row of the first request of the newest version's warm-up."""
    versions = [path for path in export.iterdir() if path.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name))
    records = tf.data.TFRecordDataset(str(newest / WARMUP_FILE))
    record = next(records.as_numpy_iterator())
    request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
    for name, tensor in request.inputs.items():
        row = tf.make_ndarray(tensor)[:1]
        request.inputs[name].CopyFrom(tf.make_tensor_proto(row, tensor.dtype))
    return request


def row_of(row: dict[str, bytes]) -> predict_pb2.PredictRequest:
    """Returns a request of one row; what it does not have is absent."""
    request = predict_pb2.PredictRequest()
    for name in (TEXT, IMAGE, AUDIO):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([row.get(name, b"")]))
    return request


def json_of(request: predict_pb2.PredictRequest) -> bytes:
    """The same row as REST takes it."""
    row = {}
    for name, tensor in request.inputs.items():
        value = tf.make_ndarray(tensor)[0]
        if isinstance(value, bytes):
            row[name] = {"b64": base64.b64encode(value).decode()}
        else:
            row[name] = value.tolist()
    signature = request.model_spec.signature_name
    return json.dumps({"signature_name": signature, "instances": [row]}).encode()


def measure(server: Server, door: str, request, flying: int, limits) -> Load:
    """Asks as often as `limits.seconds` allow, at most `limits.requests` times."""
    if door == "gRPC":
        with grpc.insecure_channel(server.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            answer = stub.Predict(request, timeout=60).SerializeToString()

        def ask(count):
            message = request.SerializeToString()
            words = (server.grpc, METHOD, message, answer)
            return grpc_load(*words, count=count, flying=flying)
    else:
        url = f"http://{server.rest}/v1/models/{request.model_spec.name}:predict"

        def ask(count):
            return rest_load(url, json_of(request), count=count, flying=flying)

    rate = ask(PROBE * flying).per_s
    rounds = min(limits.requests, rate * limits.seconds) // flying
    return ask(flying * max(PROBE, int(rounds)))


def compare(servers: list[Server], request, limits) -> None:
    """Prints the table, and of two servers the second's rates to the first's."""
    print("door  in flight  server            requests/s   p50 ms   p99 ms  failed")
    ratios = []
    for door in ("gRPC", "REST"):
        for flying in limits.in_flight:
            rates = []
            for server in servers:
                if door == "REST" and server.rest is None:
                    continue
                load = measure(server, door, request, flying, limits)
                rates.append(load.per_s)
                print(
                    f"{door}  {flying:9d}  {server.name:16s}  {load.per_s:10,.1f}  "
                    f"{load.p50_ms:7.1f}  {load.p99_ms:7.1f}  "
                    f"{load.failed} of {load.requests}",
                    flush=True,
                )
            if len(rates) == 2 and rates[0]:
                ratios.append(f"{door} {flying}: {rates[1] / rates[0]:.2f}")
    if ratios:
        print(f"{servers[1].name} against {servers[0].name}: {', '.join(ratios)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--export", type=Path, help="folder with versions")
    parser.add_argument("--target", help="HOST:PORT of a server, by gRPC")
    parser.add_argument("--rest", help="HOST:PORT of its REST door")
    parser.add_argument("--model", default="mmkeras", help="its name there")
    parser.add_argument("--batching", type=Path, help="text proto of the second server")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--requests", type=int, default=5_000, help="at most, a line")
    parser.add_argument("--seconds", type=float, default=5.0, help="about, a line")
    for name in (IMAGE, AUDIO):
        parser.add_argument(f"--{name}", type=Path, help="file of the row")
    parser.add_argument(f"--{TEXT}", help="text of the row; else the export's warm-up")
    arguments = parser.parse_args()
    if arguments.export is None and arguments.target is None:
        parser.error("one of --export and --target is needed")
    return arguments


def request_of(arguments: argparse.Namespace) -> predict_pb2.PredictRequest:
    files = {name: getattr(arguments, name) for name in (IMAGE, AUDIO)}
    row = {name: path.read_bytes() for name, path in files.items() if path}
    if arguments.text:
        row[TEXT] = arguments.text.encode()
    if not row and arguments.export is None:
        sys.exit("A row is needed: --export, or any of --text, --image, --audio.")
    request = row_of(row) if row else warmup_row(arguments.export)
    request.model_spec.name = arguments.model if arguments.target else "mmkeras"
    return request


def main() -> None:
    arguments = parse()
    request = request_of(arguments)
    with ExitStack() as stack:
        if arguments.target:
            servers = [Server(arguments.model, arguments.target, arguments.rest)]
        else:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w"))
            file.write(BATCHING)
            file.flush()
            flags = ("--batching-parameters-file", str(arguments.batching or file.name))
            export = arguments.export.resolve()
            servers = [
                stack.enter_context(started("without batching", export)),
                stack.enter_context(started("with batching", export, *flags)),
            ]
        compare(servers, request, arguments)


if __name__ == "__main__":
    main()
