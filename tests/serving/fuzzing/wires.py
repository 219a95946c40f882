"""The server as a process, and what only wires can carry."""

import contextlib
import gzip
import http.client
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from serving.server.engine.message_parsing import parse_message
from tests.serving.fuzzing import messages, models, verdict
from tests.serving.fuzzing.mutation import mutated

ROOT = Path(__file__).parents[3]
START_S, ANSWER_S, STOP_S = 180, 60, 60
# What a process may have more in memory at the end of all phases than at their start.
GROWTH_MIB = 768
MESSAGE_MIB = 16  # the server's limit here
_BATCHING = """
max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 32
num_batch_threads { value: 1 } pad_variable_length_inputs: true
"""
_SERVICES = dict.fromkeys(messages.REQUESTS, "PredictionService")
_SERVICES |= dict.fromkeys(
    ("GetModelStatus", "HandleReloadConfigRequest"), "ModelService"
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_ROW = [1.0, 0.5, -1.0, 2.0]


@dataclass(frozen=True)
class Twin:
    """A running server: its process and the ports of its doors."""

    process: subprocess.Popen
    grpc: int
    rest: int


@contextlib.contextmanager
def started(paths: dict[str, Path], log: Path, *flags: str) -> Iterator[Twin]:
    """Serves each model under its name.

    Raises:
        AssertionError: It does not start, or does not end well when told to.
    """
    command = [sys.executable, "-m", "serving.server", "--port", "0"]
    command += ["--rest-port", "0", "--max-message-mib", str(MESSAGE_MIB), *flags]
    for name, path in paths.items():
        command += ["--model", f"{name}={path}"]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield Twin(process, *_ports(process, log))
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0, log.read_text(errors="replace")[-2000:]
    finally:
        process.kill()
        process.wait()


def _ports(process: subprocess.Popen, log: Path) -> tuple[int, int]:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        said = log.read_text(errors="replace")
        if re.search(r"^Serving: ", said, re.MULTILINE):
            found = dict(re.findall(r"^(gRPC|REST): \S+:(\d+)$", said, re.MULTILINE))
            return int(found["gRPC"]), int(found["REST"])
        time.sleep(0.1)
    raise AssertionError(
        f"The server does not start:\n{log.read_text(errors='replace')[-2000:]}"
    )


def run(
    tally: verdict.Tally,
    paths: dict[str, Path],
    folder: Path,
    inputs: int,
    number: int,
    batching: bool,
) -> None:
    """Sends a twentieth of `inputs` by wires, and checks the process between phases."""
    flags = []
    if batching:
        (folder / "batching.txt").write_text(_BATCHING)
        flags = ["--batching-parameters-file", str(folder / "batching.txt")]
    log, rng = folder / f"twin-{batching}.log", random.Random(number)
    with started(paths, log, *flags) as twin:
        expected = _answer(twin)
        before_mib = verdict.rss_mib(twin.process.pid)
        for name, part, share in _PHASES:
            title = f"wires: {name}{', batches' if batching else ''}"
            with tally.phase(title, twin.process.pid):
                for i in range(max(8, int(inputs * share))):
                    result, fault, shown = part(twin, rng, i)
                    tally.take(result, fault, shown)
                    if twin.process.poll() is not None:
                        tally.take("ended", f"code {twin.process.returncode}", shown)
                        return
                _check(tally, twin, expected)
        growth_mib = verdict.rss_mib(twin.process.pid) - before_mib
        if growth_mib > GROWTH_MIB:
            tally.take("grown", f"the process grew by {growth_mib:.0f} MiB", log)
    said = log.read_text(errors="replace")
    if "Traceback" in said:
        tally.take("log", "a traceback in the log", said[said.index("Traceback") :])


def _check(tally: verdict.Tally, twin: Twin, expected: list[float]) -> None:
    """Asks for health and for an answer that is known."""
    with grpc.insecure_channel(f"127.0.0.1:{twin.grpc}") as channel:
        for service in ("", "PredictionService", "ModelService"):
            asked = health_pb2.HealthCheckRequest(service=service)
            state = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=ANSWER_S)
            good = state.status == health_pb2.HealthCheckResponse.SERVING
            tally.take("SERVING", None if good else str(state), service)
    same = np.allclose(_answer(twin), expected)
    tally.take("right", None if same else "another answer than before", expected)
    status, _, body = _http(twin, "GET", f"/v1/models/{models.NAME}", b"", {})
    tally.take(str(status), None if b"AVAILABLE" in body else repr(body), "status")


def _answer(twin: Twin) -> list[float]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = models.NAME
    request.inputs["numbers"].CopyFrom(tf.make_tensor_proto([_ROW], tf.float32))
    with grpc.insecure_channel(f"127.0.0.1:{twin.grpc}") as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        return list(call(request, timeout=ANSWER_S).outputs["y"].float_val)


def _good(rng: random.Random, method: str) -> bytes:
    """Returns a request that is right."""
    request = messages.REQUESTS[method]()
    if method == "HandleReloadConfigRequest":
        return b""
    if method == "MultiInference":
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = models.NAME, "regress"
    else:
        request.model_spec.name = models.NAME
    if method == "Predict":
        rows = rng.randint(1, 3)
        proto = tf.make_tensor_proto([_ROW] * rows, tf.float32)
        request.inputs["numbers"].CopyFrom(proto)
    elif method == "GetModelMetadata":
        request.metadata_field.append("signature_def")
    elif method != "GetModelStatus":
        if method != "MultiInference":
            request.model_spec.signature_name = method.lower()
        request.input.example_list.examples.add()
    return request.SerializeToString()


def _call(twin: Twin, method: str, data: bytes, compression=None):
    options = [("grpc.max_send_message_length", -1)]
    options += [("grpc.max_receive_message_length", -1)]
    address = f"127.0.0.1:{twin.grpc}"
    with grpc.insecure_channel(address, options) as channel:
        path = f"/tensorflow.serving.{_SERVICES[method]}/{method}"
        try:
            answer = channel.unary_unary(path)(
                data, timeout=ANSWER_S, compression=compression
            )
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
            return code.name, verdict.fault_of_error(method, code, text)
    request = parse_message(messages.REQUESTS[method], data)
    response = _RESPONSES[method].FromString(answer)
    return "OK", verdict.fault_of_response(method, request, response)


_RESPONSES = {
    name: getattr(
        sys.modules[kind.__module__],
        kind.__name__.removesuffix("Request") + "Response",
    )
    for name, kind in messages.REQUESTS.items()
}


def _changed_message(twin: Twin, rng: random.Random, turn: int):
    method = rng.choice([m for m in messages.REQUESTS if m[0] != "H"])
    good = _good(rng, method)
    data = mutated(rng, good, [good])
    return *_call(twin, method, data), (method, data)


def _large_message(twin: Twin, rng: random.Random, turn: int):
    """Strings and rows in masses, and bytes that inflate to more than is allowed."""
    kinds = ("rows", "name", "zeros", "compressed", "string", "claimed", "poo")
    kind = kinds[turn % len(kinds)]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = models.NAME
    proto, compression = request.inputs["numbers"], None
    proto.dtype = 1
    if kind == "rows":
        proto.CopyFrom(_million())
    elif kind in ("name", "poo"):
        letter = "x" if kind == "name" else "\N{PILE OF POO}"
        request.model_spec.name = letter * 2**20
    elif kind == "string":
        request.model_spec.signature_name = "words"
        del request.inputs["numbers"]
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([b"a" * (2**23)]))
    elif kind == "claimed":
        proto.float_val.append(1)
        for size in (2**20, 4):
            proto.tensor_shape.dim.add(size=size)
    else:
        proto.tensor_content = bytes(2**26)
        compression = grpc.Compression.Gzip if kind == "compressed" else None
    result, fault = _call(twin, "Predict", request.SerializeToString(), compression)
    if result == "OK" and kind != "string":
        fault = "it was answered"
    return result, fault, kind


def _million():
    proto = tf.make_tensor_proto(np.zeros((1, 4), np.float32))
    proto.ClearField("tensor_content")
    proto.float_val.append(1)
    proto.tensor_shape.dim[0].size = 10**6
    return proto


def _random_bytes(twin: Twin, rng: random.Random, turn: int):
    """No HTTP at all, HTTP/2 and then anything, or a request that breaks off."""
    port = rng.choice((twin.grpc, twin.rest))
    start = rng.choice(
        (b"", _PREFACE, _PREFACE + _frame(4, 0, 0, b""), b"\x16\x03\x01")
    )
    data = start + rng.randbytes(rng.choice((1, 9, 100, 5000)))
    if start.startswith(_PREFACE):
        frames = [
            _frame(
                rng.randrange(12),
                rng.randrange(256),
                rng.randrange(4),
                rng.randbytes(40),
            )
            for _ in range(5)
        ]
        data = start + b"".join(frames)
    return _raw(port, data), None, data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + struct.pack(">BBI", kind, flags, stream)
        + payload
    )


def _raw(port: int, data: bytes, wait_s: float = 0.2) -> str:
    """Sends bytes and reads what comes; returns how it ended."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as sock:
        sock.settimeout(wait_s)
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except TimeoutError:
            return "left"
        except OSError:
            return "reset"
    return "closed"


def _broken_http(twin: Twin, rng: random.Random, turn: int):
    """HTTP with heads and bodies that lie, or with garbage behind them."""
    body = b'{"instances": [[1.0, 0.5, -1.0, 2.0]]}'
    path = f"/v1/models/{models.NAME}:predict".encode()
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n" % path
    data = rng.choice(
        (
            head + b"Content-Length: %d\r\n\r\n" % rng.choice((-1, 0, 10**15)) + body,
            head + b"Content-Length: 1e3\r\nContent-Length: 7\r\n\r\n" + body,
            head + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"ins\r\nzz\r\n' + body,
            head + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + body,
            head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            head + b"X: " + b"a" * 300_000 + b"\r\n\r\n",
            head + b"\x00: \xff\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
            head + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n" + body,
            (head + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 3
            + b"\0garbage",
            mutated(rng, head + b"Content-Length: 38\r\n\r\n" + body, [path]),
        )
    )
    return _raw(twin.rest, data), None, data[:300]


def _http(twin: Twin, method: str, path: str, body: bytes, headers: dict[str, str]):
    connection = http.client.HTTPConnection("127.0.0.1", twin.rest, timeout=ANSWER_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, answer.read()


def _bombs(twin: Twin, rng: random.Random, turn: int):
    """Small bodies of gzip that inflate to much, of numbers or of brackets."""
    parts = (b"0," * 2**17, b"[]," * 2**16, b" " * 2**20, b'{"x":1},' * 2**13)
    part = parts[turn % len(parts)]
    many = part * (1, 16, 160)[turn // len(parts) % 3]
    body = gzip.compress(b'{"instances": [' + many + b"0]}", 1)
    path = f"/v1/models/{models.NAME}:predict"
    answer = _http(twin, "POST", path, body, {"Content-Encoding": "gzip"})
    fault = verdict.fault_of_http(*answer)
    return str(answer[0]), fault, (part[:9], len(many), len(body))


def _slow(twin: Twin, rng: random.Random, turn: int):
    """A few connections that say half a request and wait, while others are served."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            port = rng.choice((twin.grpc, twin.rest))
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            half = rng.choice(
                (b"", b"POST /v1/mod", _PREFACE, _PREFACE + b"\0\0\xff\0")
            )
            sock.sendall(half)
        status, _, _ = _http(twin, "GET", f"/v1/models/{models.NAME}", b"", {})
        result, fault = _call(twin, "Predict", _good(rng, "Predict"))
    if (status, result) != (200, "OK"):
        fault = fault or f"{status} and {result} beside slow senders"
    return result, fault, "slow senders"


_PHASES = (
    ("changed messages", _changed_message, 0.03),
    ("large messages", _large_message, 0.0005),
    ("random bytes", _random_bytes, 0.01),
    ("broken HTTP", _broken_http, 0.01),
    ("gzip bombs", _bombs, 0.001),
    ("slow senders", _slow, 0.0002),
)
