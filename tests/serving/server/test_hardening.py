"""Regression tests of faults that the fuzzer detected."""

import gzip
import re
from types import SimpleNamespace
from unittest.mock import Mock

import grpc
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.grpc import server as grpc_server
from serving.server.grpc.server import GrpcServer, build_calls, build_handler
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager
from serving.server.rest.app import build_app
from tests.serving.server.assertions import call_json, rpc_error, serving_error

MIB = 2**20
GZIP = {"HTTP_CONTENT_ENCODING": "gzip"}


def make_data_plane(**limits):
    """Returns a data plane without models."""
    return DataPlane(Manager(None), Metrics(), Limits(**limits))


def classify(app, body, **environ):
    status, response = call_json(app, "POST", "/v1/models/m:classify", body, **environ)
    return status, response["error"]


def test_a_large_model_name_is_truncated_in_the_metrics():
    metrics = Metrics()
    metrics.request_count.increment(model_name="x" * MIB, status="NOT_FOUND")
    page = metrics.render()
    assert f'model_name="{"x" * 256}",status="NOT_FOUND"}} 1' in page
    assert len(page) < 5000


def test_the_declared_size_of_tensors_counts_as_in_flight():
    data_plane = make_data_plane(in_flight_bytes=MIB, message_bytes=2 * MIB)
    request = predict_pb2.PredictRequest(model_spec={"name": "m"})

    def predict():
        return serving_error(data_plane.predict, request, Deadline()).code

    for name, size in (("x", 2**18), ("y", 1)):
        proto = request.inputs[name]
        proto.dtype = types_pb2.DT_FLOAT
        proto.tensor_shape.dim.add(size=size)
        assert predict() is grpc.StatusCode.NOT_FOUND
    with data_plane.bytes.try_acquire(100):
        assert predict() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_the_grpc_server_reads_compressed_requests_up_to_the_limit(compression):
    server = GrpcServer(make_data_plane(), "127.0.0.1", 0, threads=1, message_bytes=MIB)
    server.start()
    request = predict_pb2.PredictRequest(output_filter=["y"] * 1000)
    request.model_spec.name = "m"
    settings = {"compression": compression, "timeout": 60}
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        code, _ = rpc_error(call, request.SerializeToString(), **settings)
        assert code is grpc.StatusCode.NOT_FOUND
        code, _ = rpc_error(call, bytes(2 * MIB), **settings)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.stop(0)


def test_a_small_gzip_body_cannot_become_a_large_document():
    data_plane = SimpleNamespace(
        metrics=Metrics(), bytes=WeightedSemaphore(2 * MIB, "bytes")
    )
    app = build_app(data_plane, max_parsed_bytes=MIB)
    body = b'{"examples": [' + b"[]," * 20_000 + b"0]}"
    status, error = classify(app, gzip.compress(body), **GZIP)
    assert status == 400 and "bytes of parsed bodies" in error
    status, error = classify(app, body.replace(b"[],", b""))
    assert status == 400 and "bytes of parsed bodies" not in error


class Abort:
    """Replaces `ServicerContext.abort`, and records its arguments."""

    def __call__(self, *args):
        self.args = args
        raise ZeroDivisionError


def call_grpc(data_plane, data, remaining_s=None):
    """Calls the handler of Predict; returns the code and text of its error."""
    context = Mock(**{"time_remaining.return_value": remaining_s, "abort": Abort()})
    handler = build_handler(build_calls(data_plane)[0], data_plane, 64 * MIB)
    with pytest.raises(ZeroDivisionError):
        handler.unary_unary(data, context)
    return context.abort.args


def test_decompression_stops_where_the_shared_memory_ends():
    data_plane = make_data_plane(in_flight_bytes=8 * MIB)
    bomb, app = gzip.compress(bytes(6 * MIB)), build_app(data_plane)
    with data_plane.bytes.try_acquire(4 * MIB):
        code, text = call_grpc(data_plane, bomb)
        status, error = classify(app, bomb, **GZIP)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and status == 429
    for message in (text, error):
        match = re.match(r"Too many bytes of .* flight: (\d+) of 8388608", message)
        assert 6 * MIB < int(match[1]) <= 8 * MIB
    unread = Mock()
    with data_plane.bytes.try_acquire(8 * MIB):
        assert classify(app, bomb, **{"wsgi.input": unread})[0] == 429
        assert not unread.read.called
    with data_plane.bytes.try_acquire(8 * MIB):  # all memory was released
        pass


def test_an_expired_call_is_not_parsed(monkeypatch):
    monkeypatch.setattr(grpc_server, "parse_message", None)
    code, _ = call_grpc(make_data_plane(), b"", remaining_s=0.0)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
