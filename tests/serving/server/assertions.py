"""Helpers of the server's tests: requests, expected errors and waits."""

import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.servable import Servable
from serving.server.errors import ServingError

WAIT_S = 60


def predict_request(values, name="halves", **spec):
    """Returns a request with the floats `values` as input x."""
    request = PredictRequest(model_spec={"name": name, **spec})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array(values, np.float32)))
    return request


def serving_error(call, *args, match=None, **kwargs):
    """Returns the ServingError that a call raises, whose text matches a pattern."""
    with pytest.raises(ServingError, match=match) as caught:
        call(*args, **kwargs)
    return caught.value


def rpc_error(call, *args, **kwargs):
    """Returns (code, details) of the RpcError that a call raises."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


def wait_until(condition):
    """Waits until a condition holds."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, "timeout"
        time.sleep(0.002)


def load_servable(path, rows=100, **settings):
    """Loads version 1 of model "m", with a limit of rows."""
    return Servable("m", 1, path, semaphore=WeightedSemaphore(rows, "rows"), **settings)
