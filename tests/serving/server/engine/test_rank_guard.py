import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.engine.rank_guard import RankGuard
from serving.server.errors import ServingError

PIXELS = [None, 8, 8, 3]


@pytest.fixture
def check(monkeypatch):
    """Checks an array of a rank; returns the text of the error, or None."""

    def check(operations, shape, rank, onednn="1"):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
        signature = meta_graph_pb2.SignatureDef()
        info = signature.inputs["x"]
        info.name, info.dtype = "x:0", types_pb2.DT_FLOAT
        info.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
        guard = RankGuard({"s": signature}, {"s": operations})
        try:
            guard.check({"x:0": np.zeros([1] * rank, np.float32)})
        except ServingError as error:
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT
            return error.message
        return None

    return check


@pytest.mark.parametrize(
    "operation", ["Conv2D", "DepthwiseConv2dNative", "MaxPool3D", "_FusedMatMul"]
)
def test_a_wrong_rank_never_reaches_onednn(operation, check):
    operations = {operation, "Identity"}
    assert check(operations, PIXELS, 4) is None
    assert check(operations, PIXELS, 3) == (
        "Shape of tensor x [1,1,1] is not compatible with expected shape [?,8,8,3]."
    )


def test_an_input_of_unknown_rank_is_refused_where_a_rank_could_crash(check):
    assert "no rank in its signature" in check({"Conv2D"}, None, 4)
    assert check({"MatMul"}, None, 3) is None
    assert check({"Sigmoid", "Mul"}, None, 12) is None
    assert check({"Sigmoid", "Mul"}, None, 13)


def test_other_graphs_accept_what_tensorflow_accepts(check):
    assert check({"AddV2"}, [None, 4], 3) is None
    assert check({"Conv2D"}, PIXELS, 3, onednn="0") is None
