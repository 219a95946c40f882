"""What fuzzing has found, one test a finding."""

import gzip
import io
import json
import re
import zlib
from types import SimpleNamespace
from unittest.mock import Mock

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.engine.decompression import EITHER, decompress, decompressed
from serving.server.engine.rank_guard import RankGuard
from serving.server.engine.tensors import claimed_bytes, to_array
from serving.server.errors import ServingError, not_found
from serving.server.grpc import server
from serving.server.grpc.server import GrpcServer, _calls, _handler
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager
from serving.server.rest.app import build_app

MIB = 2**20
TAKE = WeightedSemaphore(64 * MIB, "bytes")._take


def test_a_text_is_cut_by_bytes_so_that_it_fits_the_trailers_of_grpc():
    sent = not_found("\N{PILE OF POO}" * 1024).sent
    assert sent == "\N{PILE OF POO}" * 256 + "...TRUNCATED"
    assert not_found("a" + "\N{PILE OF POO}" * 1024).sent.startswith("a\N{PILE OF POO}")
    assert not_found("a" * 1024).sent == "a" * 1024


def test_a_huge_name_of_a_model_is_counted_under_its_first_letters():
    metrics = Metrics()
    metrics.request_count.increment(model_name="x" * MIB, status="NOT_FOUND")
    page = metrics.render()
    assert f'model_name="{"x" * 256}",status="NOT_FOUND"}} 1' in page
    assert len(page) < 5000


# Ranks ------------------------------------------------------------------------


def ranks(operations, shape, monkeypatch, onednn="1"):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    signature = meta_graph_pb2.SignatureDef()
    info = signature.inputs["x"]
    info.name, info.dtype = "x:0", types_pb2.DT_FLOAT
    info.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return RankGuard({"s": signature}, {"s": operations})


def is_refused(found, rank):
    array = np.zeros([1] * rank, np.float32)
    try:
        found.check({"x:0": array})
    except ServingError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        return error.message
    return None


@pytest.mark.parametrize(
    "operation", ["Conv2D", "DepthwiseConv2dNative", "MaxPool3D", "_FusedMatMul"]
)
def test_a_wrong_rank_never_reaches_onednn(operation, monkeypatch):
    found = ranks({operation, "Identity"}, [None, 8, 8, 3], monkeypatch)
    assert is_refused(found, 4) is None
    assert is_refused(found, 3) == (
        "Shape of tensor x [1,1,1] is not compatible with expected shape [?,8,8,3]."
    )


def test_an_input_of_any_rank_may_not_reach_a_kernel_that_a_rank_can_end(monkeypatch):
    assert "no rank in its signature" in is_refused(
        ranks({"Conv2D"}, None, monkeypatch), 4
    )
    assert is_refused(ranks({"MatMul"}, None, monkeypatch), 3) is None
    assert is_refused(ranks({"Sigmoid", "Mul"}, None, monkeypatch), 12) is None
    assert is_refused(ranks({"Sigmoid", "Mul"}, None, monkeypatch), 13)


def test_other_graphs_take_what_tensorflow_takes(monkeypatch):
    assert is_refused(ranks({"AddV2"}, [None, 4], monkeypatch), 3) is None
    without = ranks({"Conv2D"}, [None, 8, 8, 3], monkeypatch, onednn="0")
    assert is_refused(without, 3) is None


# Memory -----------------------------------------------------------------------


def claim(dtype, *sizes):
    proto = tensor_pb2.TensorProto(dtype=dtype)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


def test_a_string_counts_as_what_it_takes_in_memory():
    proto = claim(types_pb2.DT_STRING, 1000)
    assert claimed_bytes(proto, MIB) == 32_000
    assert to_array(proto, 32_000).shape == (1000,)
    with pytest.raises(ValueError, match="32000 bytes"):
        to_array(proto, 31_999)


@pytest.mark.parametrize(
    "proto",
    [claim(types_pb2.DT_FLOAT, -1), claim(types_pb2.DT_FLOAT, 2**40), claim(99, 4)],
)
def test_what_is_no_tensor_claims_nothing(proto):
    assert claimed_bytes(proto, MIB) == 0


def test_tensors_that_a_few_bytes_stand_for_count_as_in_flight():
    core = DataPlane(
        Manager(None), Metrics(), Limits(in_flight_bytes=MIB, message_bytes=2 * MIB)
    )
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(claim(types_pb2.DT_FLOAT, 2**18))
    with pytest.raises(ServingError) as caught:
        core.predict(request, Deadline())
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    request.inputs["y"].CopyFrom(claim(types_pb2.DT_FLOAT, 1))
    with pytest.raises(ServingError) as caught:
        core.predict(request, Deadline())
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with core.bytes.taken_now(100):
        with pytest.raises(ServingError) as caught:
            core.predict(request, Deadline())
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_compressed_message_is_inflated_to_the_limit_and_no_further(pack):
    message = predict_pb2.PredictRequest(output_filter=["y"] * 1000).SerializeToString()
    assert decompressed(pack(message), len(message), TAKE) == message
    with pytest.raises(ServingError) as caught:
        decompressed(pack(message), len(message) - 1, TAKE)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for broken in (pack(message)[:-9], pack(message)[:12]):
        with pytest.raises(ServingError, match="no compressed message") as caught:
            decompressed(broken, MIB, TAKE)
        assert caught.value.code is grpc.StatusCode.INTERNAL


def test_a_plain_message_is_left_as_it_is():
    message = predict_pb2.PredictRequest(output_filter=["y"]).SerializeToString()
    assert decompressed(message, 0, TAKE) is message
    assert decompressed(b"", 0, TAKE) == b""


def serve(most_bytes):
    door = GrpcServer(
        DataPlane(Manager(None), Metrics(), Limits()),
        "127.0.0.1",
        0,
        threads=1,
        message_bytes=most_bytes,
    )
    door.start()
    return door


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_the_door_reads_what_clients_compress(compression):
    door = serve(MIB)
    request = predict_pb2.PredictRequest(output_filter=["y"] * 1000)
    request.model_spec.name = "m"
    with grpc.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), compression=compression, timeout=60)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(2 * MIB), compression=compression, timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    door.stop(0)


def post(app, body: bytes, **headers):
    environ = {
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/v1/models/m:classify",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **headers,
    }
    statuses = []
    answer = app(environ, lambda status, _: statuses.append(status))
    return statuses[0], json.loads(b"".join(answer))["error"]


def test_a_small_body_of_gzip_cannot_become_a_large_document():
    core = SimpleNamespace(metrics=Metrics(), bytes=WeightedSemaphore(2 * MIB, "bytes"))
    app = build_app(core, max_parsed_bytes=MIB)
    body = b'{"examples": [' + b"[]," * 20_000 + b"0]}"
    status, error = post(app, gzip.compress(body), HTTP_CONTENT_ENCODING="gzip")
    assert status.startswith("400")
    assert "bytes of parsed bodies" in error
    status, error = post(app, body.replace(b"[],", b""))
    assert status.startswith("400")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_room_is_taken_for_each_part_that_is_inflated(pack):
    rng, taken = np.random.default_rng(1), []
    message = rng.bytes(3 * MIB) + bytes(3 * MIB)  # more than a step on either side
    found, behind = decompress(pack(message) + b"behind", EITHER, 9 * MIB, taken.append)
    assert (found, behind) == (message, b"behind")
    assert sum(taken) == 6 * MIB and max(taken) <= MIB


def test_a_bomb_is_inflated_no_further_than_there_is_room():
    """Through both doors, of one room; and all of it is given back."""
    core = DataPlane(Manager(None), Metrics(), Limits(in_flight_bytes=8 * MIB))
    bomb = gzip.compress(bytes(6 * MIB))
    call = _handler(_calls(core)[0], core, 64 * MIB).unary_unary
    app = build_app(core)
    context = Mock(**{"time_remaining.return_value": None, "abort": Aborting()})
    with core.bytes.taken_now(4 * MIB):
        with pytest.raises(ZeroDivisionError):
            call(bomb, context)
        code, text = context.abort.args
        status, error = post(app, bomb, HTTP_CONTENT_ENCODING="gzip")
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and status.startswith("429")
    for said in (text, error):
        used = int(
            re.match(r"Too many bytes of requests in flight: (\d+) of 8388608", said)[1]
        )
        assert 6 * MIB < used <= 8 * MIB
    unread = Mock()
    with core.bytes.taken_now(8 * MIB):
        status, error = post(app, bomb, **{"wsgi.input": unread})
        assert status.startswith("429") and not unread.read.called
    with core.bytes.taken_now(8 * MIB):  # all is there again
        pass


def test_a_call_that_is_over_is_not_even_parsed(monkeypatch):
    core = DataPlane(Manager(None), Metrics(), Limits())
    monkeypatch.setattr(server, "_parsed", None)
    context = Mock(**{"time_remaining.return_value": 0.0, "abort": Aborting()})
    with pytest.raises(ZeroDivisionError):
        _handler(_calls(core)[0], core, MIB).unary_unary(b"", context)
    assert context.abort.args[0] is grpc.StatusCode.DEADLINE_EXCEEDED


class Aborting:
    """Takes what a request ends with.

    Attributes:
        args: That.
    """

    def __call__(self, *args):
        self.args = args
        raise ZeroDivisionError
