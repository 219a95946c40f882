import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine.predict import predict
from tests.serving.server.assertions import serving_error

ONE = np.ones(1, np.float32)
INIT = "__saved_model_init_op"
CODES = {
    "S": grpc.StatusCode.FAILED_PRECONDITION,
    INIT: grpc.StatusCode.INTERNAL,
}


def run_predict(servable, signature="", outputs=(), max_bytes=2**20, **inputs):
    spec = {"name": "model", "signature_name": signature}
    tensors = {name: tf.make_tensor_proto(value) for name, value in inputs.items()}
    request = predict_pb2.PredictRequest(
        model_spec=spec, inputs=tensors, output_filter=outputs
    )
    return predict(servable, request, Deadline(30), max_bytes)


def test_the_response_has_all_outputs_and_the_version(servable):
    response = run_predict(servable, x=np.array([1.0, 5.0], np.float32))
    assert response.outputs["y"].float_val == [2.5, 4.5]
    spec = response.model_spec
    assert (spec.name, spec.version.value) == ("model", 1)
    assert spec.signature_name == "serving_default"
    response = run_predict(servable, "echo", s=[b"\xff\x00", b""])
    assert response.outputs["s_bytes"].string_val == [b"\xff\x00", b""]
    assert response.outputs["length"].int_val == [2, 0]


def test_the_filter_selects_outputs(servable):
    response = run_predict(servable, "add", ["difference"], x=ONE, b=ONE)
    assert list(response.outputs) == ["difference"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"signature": "S"}, '^Serving signature key "S" not found.$'),
        ({"signature": INIT}, "Expected prediction signature"),
        ({"signature": "add", "x": ONE}, "1!=2 len.*extra: {}. Missing .*: {b}.$"),
        ({"x": ONE, "z": ONE}, "2!=1 len.*extra: {z}. Missing but required: {}.$"),
        ({"z": ONE}, r"alias: x\(feed name: \S+:0\) not found in request .* {z}, or"),
        ({"outputs": ["Z"], "x": ONE}, "signature: Z Outputs .* in the set {y}.$"),
        ({"outputs": ["y", "y"], "x": ONE}, "^duplicate output tensor alias: y$"),
        ({"max_bytes": 3, "x": ONE}, "^tensor parsing error: x$"),
    ],
)
def test_an_invalid_request_is_refused(servable, settings, text):
    error = serving_error(run_predict, servable, **settings, match=text)
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert error.code is CODES.get(settings.get("signature"), invalid)
