"""Fuzzing of the server process with raw bytes, HTTP and large gRPC messages."""

import contextlib
import gzip
import http.client
import random
import socket
import struct
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.fuzzing import models, oracle
from tests.serving.fuzzing.mutation import mutate
from tests.serving.server_process import ServerProcess, start_server

TIMEOUT_S = 60
GROWTH_MIB = 768  # maximum growth of the process over all phases
MESSAGE_MIB = 16  # limit of the server
BATCHING = """
max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 32
num_batch_threads { value: 1 } pad_variable_length_inputs: true
"""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_ROW = [1.0, 0.5, -1.0, 2.0]
_STATUS_PATH = f"/v1/models/{models.NAME}"
_PATH = f"{_STATUS_PATH}:predict"


def run(
    report: oracle.Report,
    paths: dict[str, Path],
    folder: Path,
    inputs: int,
    number: int,
    batching: Path | None,
) -> None:
    """Sends a part of `inputs`, and checks the process between phases."""
    flags = ["--max-message-mib", str(MESSAGE_MIB)]
    if batching:
        flags += ["--batching-parameters-file", str(batching)]
    log, rng = folder / f"server-{number}.log", random.Random(number)
    with start_server(paths, log, *flags) as server:
        expected = _predict(server)
        before_mib = oracle.rss_mib(server.process.pid)
        for name, part, share in _PHASES:
            title = f"protocols: {name}{', batches' if batching else ''}"
            with report.phase(title, server.process.pid):
                for i in range(max(8, int(inputs * share))):
                    result, problem, shown = part(server, rng, i)
                    report.record(result, problem, shown)
                    if (code := server.process.poll()) is not None:
                        report.record("ended", f"code {code}", shown)
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
        check = health_pb2_grpc.HealthStub(channel).Check
        state = check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    good = state.status == health_pb2.HealthCheckResponse.SERVING
    report.record("SERVING", None if good else str(state), "health")
    same = np.allclose(_predict(server), expected)
    report.record("right", None if same else "another prediction than before", expected)
    status, _, body = _http(server, "GET", _STATUS_PATH)
    report.record(str(status), None if b"AVAILABLE" in body else repr(body), "status")


def _request() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": models.NAME})
    request.inputs["numbers"].CopyFrom(tf.make_tensor_proto([_ROW], tf.float32))
    return request


@contextlib.contextmanager
def _predict_of(server: ServerProcess):
    options = [("grpc.max_send_message_length", -1)]
    options += [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def _predict(server: ServerProcess) -> list[float]:
    with _predict_of(server) as predict:
        return list(predict(_request(), timeout=TIMEOUT_S).outputs["y"].float_val)


def _large_message(server: ServerProcess, rng: random.Random, turn: int):
    """Sends huge strings and batches, and bytes that decompress above the limit."""
    kinds = ("rows", "x", "zeros", "compressed", "string", "claimed", "\N{PILE OF POO}")
    kind, request = kinds[turn % len(kinds)], _request()
    proto = request.inputs["numbers"]
    if kind in ("rows", "claimed"):  # one number for many
        proto.ClearField("tensor_content")
        proto.float_val.append(1)
        proto.tensor_shape.dim[0].size = 10**6 if kind == "rows" else 2**20
    elif kind == "string":
        request.model_spec.signature_name = "words"
        del request.inputs["numbers"]
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([b"a" * (2**23)]))
    elif kind in ("zeros", "compressed"):
        proto.tensor_content = bytes(2**26)
    else:
        request.model_spec.name = kind * 2**20
    compression = grpc.Compression.Gzip if kind == "compressed" else None
    with _predict_of(server) as predict:
        try:
            response = predict(request, timeout=TIMEOUT_S, compression=compression)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
            return code.name, oracle.check_error("Predict", code, text), kind
    problem = oracle.check_response("Predict", request, response)
    return "OK", problem if kind == "string" else "it was accepted", kind


def _random_bytes(server: ServerProcess, rng: random.Random, turn: int):
    """Sends random bytes, with or without a valid start of HTTP/2 or TLS."""
    target = rng.choice((server.grpc, server.rest))
    settings = _PREFACE + _frame(4, 0, 0, b"")
    data = rng.choice((b"", _PREFACE, settings, b"\x16\x03\x01"))
    if data.startswith(_PREFACE):
        for _ in range(5):
            kind, flags, stream = (
                rng.randrange(12),
                rng.randrange(256),
                rng.randrange(4),
            )
            data += _frame(kind, flags, stream, rng.randbytes(40))
    else:
        data += rng.randbytes(rng.choice((1, 9, 100, 5000)))
    return _send_raw(target, data), None, data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload


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
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n" % _PATH.encode()
    rest = rng.choice(
        (
            b"Content-Length: %d\r\n\r\n" % rng.choice((-1, 0, 10**15)) + body,
            b"Content-Length: 1e3\r\nContent-Length: 7\r\n\r\n" + body,
            b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"ins\r\nzz\r\n' + body,
            b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + body,
            b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"X: " + b"a" * 300_000 + b"\r\n\r\n",
            b"\x00: \xff\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
            b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n" + body,
            b"Content-Length: %d\r\n\r\n" % len(body) + body + head + b"\0garbage",
        )
    )
    data = head + rest if rng.randrange(10) else mutate(rng, head + rest, [head])
    return _send_raw(server.rest, data), None, data[:300]


def _http(server: ServerProcess, method: str, path: str, body=b"", headers=None):
    connection = http.client.HTTPConnection(server.rest, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return response.status, named, response.read()


def _bombs(server: ServerProcess, rng: random.Random, turn: int):
    """Sends small gzip bodies that decompress to many numbers or brackets."""
    parts = (b"0," * 2**17, b"[]," * 2**16, b" " * 2**20, b'{"x":1},' * 2**13)
    part = parts[turn % len(parts)]
    many = part * (1, 16, 160)[turn // len(parts) % 3]
    body = gzip.compress(b'{"instances": [' + many + b"0]}", 1)
    response = _http(server, "POST", _PATH, body, {"Content-Encoding": "gzip"})
    problem = oracle.check_http(*response)
    return str(response[0]), problem, (part[:9], len(many), len(body))


def _slow(server: ServerProcess, rng: random.Random, turn: int):
    """Opens connections that send half a request and wait, while others are served."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            target = rng.choice((server.grpc, server.rest))
            sock = stack.enter_context(_connect(target))
            halves = (b"", b"POST /v1/mod", _PREFACE, _PREFACE + b"\0\0\xff\0")
            sock.sendall(rng.choice(halves))
        status, _, _ = _http(server, "GET", _STATUS_PATH)
        good = status == 200 and _predict(server)
    return str(status), None if good else "no result next to slow senders", "slow"


_PHASES = (
    ("large messages", _large_message, 0.0005),
    ("random bytes", _random_bytes, 0.01),
    ("broken HTTP", _broken_http, 0.01),
    ("gzip bombs", _bombs, 0.001),
    ("slow senders", _slow, 0.0002),
)
