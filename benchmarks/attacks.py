"""Attacks on the server: requests that are slow, large, compressed, invalid or many.

Each attack is a number of connections that do the same: they send bytes, pause, and
read the response.
"""

import gzip
import http.client
import json
import random
import re
import resource
import socket
import time
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from benchmarks.http2_stream import Script, Stream

MODEL = "mmkeras"  # the name under which `start_server` serves
CLASSIFIER = "classifier"
METRICS_PATH = "/monitoring/prometheus/metrics"
TIMEOUT_S = 10  # of a request, in the server
_SERVICE = "tensorflow.serving.PredictionService"
_MIB = 2**20
# Maximum times of a connection: to send, and then to wait for the response.
_SEND_S, _RECEIVE_S, _RECEIVE_UNFINISHED_S = 10.0, 10.0, 2.0
_HOLD_S = 5.0
_QUIET_S = 0.5  # without a byte, after which the responses are complete
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_POST = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: x\r\n"


@dataclass(frozen=True)
class Attack:
    """Attack by equal connections.

    Attributes:
        clients: Concurrent connections.
        script: Builds what each of them does.
        method: gRPC method; None: REST.
        encoding: gRPC's encoding of the messages.
    """

    clients: int
    script: Callable[[], Script]
    method: str | None = None
    encoding: str = "identity"


def run_attack(name: str, grpc_address: str, rest_address: str) -> dict[str, int]:
    """Runs an attack for about 20 s; returns {outcome: number of responses}."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = ATTACKS[name]
    if attack is FLOOD:
        return _flood(grpc_address, rest_address)
    script = attack.script()

    def connect(_) -> Counter[str]:
        try:
            if not attack.method:
                return _request(rest_address, script)
            method = f"{_SERVICE}/{attack.method}"
            stream = Stream(grpc_address, method, TIMEOUT_S, attack.encoding)
            return Counter([stream.run(script, _SEND_S, _receive_s(script))])
        except OSError:
            return Counter(["not connected"])

    with ThreadPoolExecutor(attack.clients) as threads:
        return dict(sum(threads.map(connect, range(attack.clients)), Counter()))


def _receive_s(script: Script) -> float:
    return _RECEIVE_UNFINISHED_S if isinstance(script[-1], float) else _RECEIVE_S


def _request(target: str, script: Script) -> Counter[str]:
    """Sends HTTP; returns the status codes of the responses."""
    host, _, port = target.rpartition(":")
    end_s, default = time.monotonic() + _SEND_S, "no response"
    with socket.create_connection((host, int(port)), timeout=_SEND_S) as connection:
        try:
            for step in script:
                if isinstance(step, float):
                    time.sleep(step)
                else:
                    connection.settimeout(max(0.1, end_s - time.monotonic()))
                    connection.sendall(step)
        except TimeoutError:
            default = "stalled"
        except OSError:  # closed; the response may have come before
            default = "connection closed"
        statuses = _read_statuses(connection, _receive_s(script))
    return statuses or Counter([default])


def _read_statuses(connection: socket.socket, wait_s: float) -> Counter[str]:
    statuses, rest, end_s = Counter(), b"", time.monotonic() + wait_s
    try:
        while time.monotonic() < end_s:
            connection.settimeout(wait_s)
            part = connection.recv(_MIB)
            if not part:
                break
            # The end of the previous part may hold the start of a status line.
            statuses.update(code.decode() for code in _STATUS.findall(rest + part))
            rest, wait_s = part[-11:], _QUIET_S
    except OSError:
        pass
    return statuses


def _flood(grpc_address: str, rest_address: str) -> dict[str, int]:
    """Sends requests for random models; looks for the metrics of the real one."""
    end_s = time.monotonic() + _SEND_S + _RECEIVE_S
    with grpc.insecure_channel(grpc_address) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

        def send(name: str, signature: str = "") -> str:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            try:
                predict(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        def send_random(_) -> str:
            late = time.monotonic() > end_s
            return "not sent" if late else send(f"{random.getrandbits(64):016x}")

        with ThreadPoolExecutor(FLOOD.clients) as threads:
            outcomes = Counter(threads.map(send_random, range(20_000)))
        code = send(MODEL, "missing")  # new labels
    connection = http.client.HTTPConnection(rest_address, timeout=TIMEOUT_S)
    connection.request("GET", METRICS_PATH)
    line = f'request_count{{model_name="{MODEL}",status="{code}"}}'
    is_listed = line.encode() in connection.getresponse().read()
    return {**outcomes, f"metrics {'have' if is_listed else 'lack'} the model": 1}


def _message(request, flag: bytes = b"\0") -> bytes:
    data = request if isinstance(request, bytes) else request.SerializeToString()
    return flag + len(data).to_bytes(4) + data


def _numbers() -> bytes:
    """Returns a valid message of 200 MiB, whose response is small."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, "total"
    tensor = tf.make_tensor_proto(np.zeros([1000, 200 * _MIB // 8000], np.int64))
    request.inputs["n"].CopyFrom(tensor)
    return _message(request)


def _slow_numbers() -> Script:
    message = memoryview(_numbers())
    return message[:-_MIB], _HOLD_S, message[-_MIB:]


def _context() -> bytes:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = CLASSIFIER
    request.model_spec.signature_name = "classify"
    examples = request.input.example_list_with_context
    examples.context.features.feature["x"].float_list.value.append(1.0)
    examples.context.features.feature["y"].bytes_list.value.append(bytes(4 * _MIB))
    for _ in range(500):
        examples.examples.add()
    return _message(request)


def _bomb() -> bytes:
    """Returns gzip of 1 GiB."""
    stream, part = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16), bytes(_MIB)
    return b"".join(stream.compress(part) for _ in range(1024)) + stream.flush()


def _post(body: bytes | bytearray, *headers: str, length: int = 0) -> bytes:
    lines = [*headers, f"Content-Length: {length or len(body)}"]
    return _POST.encode() + "\r\n".join([*lines, "", ""]).encode() + body


def _chunks(count: int) -> bytes:
    head = f"{_POST}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + (f"{_MIB:x}\r\n".encode() + b"1" * _MIB + b"\r\n") * count


def _total_json() -> bytes:
    """Returns 873 rows. They run, and then an output without rows is an error."""
    row = b'{"n":[%s]}' % b",".join([b"12345"] * 20_000)
    rows = b",".join([row] * (100 * _MIB // len(row)))
    return b'{"signature_name":"total","instances":[%s]}' % rows


def _echo_json() -> bytes:
    value = {"b64": b64encode(bytes(7_000_000)).decode()}
    body = {"signature_name": "echo", "instances": [{"s": value}]}
    return json.dumps(body).encode()


_GZIP = "Content-Encoding: gzip"
_GET = f"GET /v1/models/{MODEL} HTTP/1.1\r\nHost: x\r\n"
FLOOD = Attack(32, tuple)
ATTACKS = {
    "gRPC: 12 messages of 200 MiB, the last MiB 5 s late": Attack(
        12, _slow_numbers, "Predict"
    ),
    "gRPC: 12 messages of 200 MiB": Attack(12, lambda: [_numbers()], "Predict"),
    "gRPC: 500 empty examples with a context of 4 MiB": Attack(
        1, lambda: [_context()], "Classify"
    ),
    "gRPC: 8 gzip messages of 1 GiB, inflated": Attack(
        8, lambda: [_message(_bomb(), b"\1")], "Predict", "gzip"
    ),
    # The server runs 288 calls at once; later ones would take what a probe frees.
    "gRPC: 600 messages that stop after a byte": Attack(
        600, lambda: [b"\0", _HOLD_S], "Predict"
    ),
    "gRPC: 20,000 requests for random models, 32 at once": FLOOD,
    "REST: 12 bodies of 200 MiB that stop before the last byte": Attack(
        12, lambda: [_post(bytes(200 * _MIB - 1), length=200 * _MIB), _HOLD_S]
    ),
    "REST: the same, chunked": Attack(12, lambda: [_chunks(200), _HOLD_S]),
    "REST: 2 gzip bodies of 120,000 members": Attack(
        2, lambda: [_post(gzip.compress(b"") * 120_000, _GZIP)]
    ),
    "REST: 8 gzip bodies of 1 GiB, inflated": Attack(
        8, lambda: [_post(_bomb(), _GZIP)]
    ),
    "REST: 100 MiB of empty lists": Attack(
        1, lambda: [_post(b'{"inputs":[%s[]]}' % (b"[]," * (100 * _MIB // 3)))]
    ),
    "REST: 5 million rows": Attack(
        1, lambda: [_post(b'{"instances":[%s1]}' % (b"1," * 5_000_000))]
    ),
    "REST: 100 MiB of numbers": Attack(1, lambda: [_post(_total_json())]),
    "REST: 1,000 connections that stop within the header": Attack(
        1000, lambda: [_POST.encode(), _HOLD_S]
    ),
    "REST: 50,000 pipelined requests, responses unread for 5 s": Attack(
        1, lambda: [f"{_GET}\r\n".encode() * 50_000, _HOLD_S]
    ),
    "REST: a header of 64 MiB": Attack(
        1, lambda: [f"{_GET}X: ".encode() + b"a" * 64 * _MIB, _HOLD_S]
    ),
    "REST: trailers of 64 MiB": Attack(
        1, lambda: [_chunks(1) + b"0\r\n" + b"a: b\r\n" * (64 * _MIB // 6), _HOLD_S]
    ),
    "REST: 50 responses of 9 MiB, unread for 9 s": Attack(
        50, lambda: [_post(_echo_json()), 9.0]
    ),
}
