"""Fuzzing of the server process with raw bytes, HTTP and large gRPC messages."""

import contextlib
import gzip
import http.client
import random
import socket
import struct
import sys
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from serving.server.engine.message_parsing import parse_message
from tests.serving.fuzzing import messages, models, oracle
from tests.serving.fuzzing.mutation import mutate
from tests.serving.server_process import ServerProcess, start_server

TIMEOUT_S = 60
GROWTH_MIB = 768  # maximum growth of the process over all phases
MESSAGE_MIB = 16  # limit of the server
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


def run(
    report: oracle.Report,
    paths: dict[str, Path],
    folder: Path,
    inputs: int,
    number: int,
    batching: bool,
) -> None:
    """Sends a twentieth of `inputs`, and checks the process between phases."""
    flags = ["--max-message-mib", str(MESSAGE_MIB)]
    if batching:
        (folder / "batching.txt").write_text(_BATCHING)
        flags += ["--batching-parameters-file", str(folder / "batching.txt")]
    log, rng = folder / f"server-{batching}.log", random.Random(number)
    with start_server(paths, log, *flags) as server:
        expected = _predict(server)
        before_mib = oracle.rss_mib(server.process.pid)
        for name, part, share in _PHASES:
            title = f"protocols: {name}{', batches' if batching else ''}"
            with report.phase(title, server.process.pid):
                for i in range(max(8, int(inputs * share))):
                    result, problem, shown = part(server, rng, i)
                    report.record(result, problem, shown)
                    if server.process.poll() is not None:
                        report.record(
                            "ended", f"code {server.process.returncode}", shown
                        )
                        return
                _check(report, server, expected)
        growth_mib = oracle.rss_mib(server.process.pid) - before_mib
        if growth_mib > GROWTH_MIB:
            report.record("grown", f"the process grew by {growth_mib:.0f} MiB", log)
    text = log.read_text(errors="replace")
    if "Traceback" in text:
        report.record("log", "a traceback in the log", text[text.index("Traceback") :])


def _check(report: oracle.Report, server: ServerProcess, expected: list[float]) -> None:
    """Checks the health, a known prediction and the status."""
    with grpc.insecure_channel(server.grpc) as channel:
        for service in ("", "PredictionService", "ModelService"):
            request = health_pb2.HealthCheckRequest(service=service)
            state = health_pb2_grpc.HealthStub(channel).Check(
                request, timeout=TIMEOUT_S
            )
            good = state.status == health_pb2.HealthCheckResponse.SERVING
            report.record("SERVING", None if good else str(state), service)
    same = np.allclose(_predict(server), expected)
    report.record("right", None if same else "another prediction than before", expected)
    status, _, body = _http(server, "GET", f"/v1/models/{models.NAME}", b"", {})
    report.record(str(status), None if b"AVAILABLE" in body else repr(body), "status")


def _predict(server: ServerProcess) -> list[float]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = models.NAME
    request.inputs["numbers"].CopyFrom(tf.make_tensor_proto([_ROW], tf.float32))
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        return list(call(request, timeout=TIMEOUT_S).outputs["y"].float_val)


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


def _call(server: ServerProcess, method: str, data: bytes, compression=None):
    options = [("grpc.max_send_message_length", -1)]
    options += [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options) as channel:
        path = f"/tensorflow.serving.{_SERVICES[method]}/{method}"
        try:
            content = channel.unary_unary(path)(
                data, timeout=TIMEOUT_S, compression=compression
            )
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
            return code.name, oracle.check_error(method, code, text)
    request = parse_message(messages.REQUESTS[method], data)
    response = _RESPONSES[method].FromString(content)
    return "OK", oracle.check_response(method, request, response)


_RESPONSES = {
    name: getattr(
        sys.modules[kind.__module__], kind.__name__.removesuffix("Request") + "Response"
    )
    for name, kind in messages.REQUESTS.items()
}


def _mutated_message(server: ServerProcess, rng: random.Random, turn: int):
    method = rng.choice([m for m in messages.REQUESTS if m[0] != "H"])
    good = _good(rng, method)
    data = mutate(rng, good, [good])
    return *_call(server, method, data), (method, data)


def _large_message(server: ServerProcess, rng: random.Random, turn: int):
    """Sends huge strings and batches, and bytes that decompress above the limit."""
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
    result, problem = _call(server, "Predict", request.SerializeToString(), compression)
    if result == "OK" and kind != "string":
        problem = "it was accepted"
    return result, problem, kind


def _million():
    proto = tf.make_tensor_proto(np.zeros((1, 4), np.float32))
    proto.ClearField("tensor_content")
    proto.float_val.append(1)
    proto.tensor_shape.dim[0].size = 10**6
    return proto


def _random_bytes(server: ServerProcess, rng: random.Random, turn: int):
    """Sends random bytes, with or without a valid start of HTTP/2 or TLS."""
    target = rng.choice((server.grpc, server.rest))
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
    return _send_raw(target, data), None, data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + struct.pack(">BBI", kind, flags, stream)
        + payload
    )


def _connect(target: str) -> socket.socket:
    host, port = target.split(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S)


def _send_raw(target: str, data: bytes, wait_s: float = 0.2) -> str:
    """Sends bytes and reads the response; returns how the connection ended."""
    with _connect(target) as sock:
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


def _broken_http(server: ServerProcess, rng: random.Random, turn: int):
    """Sends HTTP with false lengths or encodings, or with garbage behind it."""
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
            mutate(rng, head + b"Content-Length: 38\r\n\r\n" + body, [path]),
        )
    )
    return _send_raw(server.rest, data), None, data[:300]


def _http(
    server: ServerProcess, method: str, path: str, body: bytes, headers: dict[str, str]
):
    connection = http.client.HTTPConnection(server.rest, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return response.status, named, response.read()


def _bombs(server: ServerProcess, rng: random.Random, turn: int):
    """Sends small gzip bodies that decompress to many numbers or brackets."""
    parts = (b"0," * 2**17, b"[]," * 2**16, b" " * 2**20, b'{"x":1},' * 2**13)
    part = parts[turn % len(parts)]
    many = part * (1, 16, 160)[turn // len(parts) % 3]
    body = gzip.compress(b'{"instances": [' + many + b"0]}", 1)
    path = f"/v1/models/{models.NAME}:predict"
    response = _http(server, "POST", path, body, {"Content-Encoding": "gzip"})
    problem = oracle.check_http(*response)
    return str(response[0]), problem, (part[:9], len(many), len(body))


def _slow(server: ServerProcess, rng: random.Random, turn: int):
    """Opens connections that send half a request and wait, while others are served."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            target = rng.choice((server.grpc, server.rest))
            sock = stack.enter_context(_connect(target))
            half = rng.choice(
                (b"", b"POST /v1/mod", _PREFACE, _PREFACE + b"\0\0\xff\0")
            )
            sock.sendall(half)
        status, _, _ = _http(server, "GET", f"/v1/models/{models.NAME}", b"", {})
        result, problem = _call(server, "Predict", _good(rng, "Predict"))
    if (status, result) != (200, "OK"):
        problem = problem or f"{status} and {result} next to slow senders"
    return result, problem, "slow senders"


_PHASES = (
    ("mutated messages", _mutated_message, 0.03),
    ("large messages", _large_message, 0.0005),
    ("random bytes", _random_bytes, 0.01),
    ("broken HTTP", _broken_http, 0.01),
    ("gzip bombs", _bombs, 0.001),
    ("slow senders", _slow, 0.0002),
)
