from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from serving.server.engine.rank_guard import RankGuard
from tests.serving.server.assertions import serving_error

PIXELS = [None, 8, 8, 3]
WRONG = "x [1,1,1] is not compatible with expected shape [?,8,8,3]."
NO_RANK = "could end the process."


@pytest.mark.parametrize(
    ("operation", "shape", "rank", "text"),
    [
        ("Conv2D", PIXELS, 4, None),
        ("Conv2D", PIXELS, 3, WRONG),
        ("DepthwiseConv2dNative", PIXELS, 3, WRONG),
        ("MaxPool3D", PIXELS, 3, WRONG),
        ("_FusedMatMul", PIXELS, 3, WRONG),
        ("Conv2D", None, 4, NO_RANK),
        ("MatMul", None, 3, None),
        ("Sigmoid", None, 12, None),
        ("Sigmoid", None, 13, NO_RANK),
        ("AddV2", [None, 4], 3, None),
    ],
)
def test_only_a_rank_that_could_crash_onednn_is_refused(
    monkeypatch, operation, shape, rank, text
):
    info = TensorInfo(name="x:0", tensor_shape=tf.TensorShape(shape).as_proto())
    signatures = {"s": SignatureDef(inputs={"x": info})}
    operations = {"s": {operation, "Identity"}}
    session = SimpleNamespace(signatures=signatures, operations=operations)
    feeds = {"x:0": np.zeros([1] * rank, np.float32)}
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    RankGuard(session).check(feeds)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    guard = RankGuard(session)
    if text:
        assert text in serving_error(guard.check, feeds).message
    else:
        guard.check(feeds)
