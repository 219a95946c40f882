import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine.predict import predict
from serving.server.errors import ServingError

ONE = np.ones(1, np.float32)
INVALID = grpc.StatusCode.INVALID_ARGUMENT
CODES = {
    "S": grpc.StatusCode.FAILED_PRECONDITION,
    "__saved_model_init_op": grpc.StatusCode.INTERNAL,
}


def run_predict(servable, signature="", outputs=(), max_bytes=2**20, **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "model"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return predict(servable, request, Deadline(30), max_bytes)


def test_the_response_has_the_output_and_the_version(servable):
    response = run_predict(servable, x=np.array([1.0, 5.0], np.float32))
    assert response.outputs["y"].float_val == [2.5, 4.5]
    spec = response.model_spec
    assert (spec.name, spec.version.value) == ("model", 1)
    assert spec.signature_name == "serving_default"


def test_the_filter_selects_outputs(servable):
    response = run_predict(servable, "add", ["difference"], x=ONE, b=ONE)
    assert list(response.outputs) == ["difference"]


def test_every_output_is_returned_and_strings_in_string_val(servable):
    response = run_predict(servable, "echo", s=[b"\xff\x00", b""])
    assert response.outputs["s_bytes"].string_val == [b"\xff\x00", b""]
    assert response.outputs["length"].int_val == [2, 0]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"signature": "S"}, '^Serving signature key "S" not found.$'),
        ({"signature": "__saved_model_init_op"}, "Expected prediction signature"),
        ({"signature": "add", "x": ONE}, "1!=2 len.*extra: {}. Missing .*: {b}.$"),
        ({"x": ONE, "z": ONE}, "2!=1 len.*extra: {z}. Missing but required: {}.$"),
        ({"z": ONE}, r"alias: x\(feed name: \S+:0\) not found in request .* {z}, or"),
        ({"outputs": ["Z"], "x": ONE}, "signature: Z Outputs .* in the set {y}.$"),
        ({"outputs": ["y", "y"], "x": ONE}, "^duplicate output tensor alias: y$"),
        ({"max_bytes": 3, "x": ONE}, "^tensor parsing error: x$"),
    ],
)
def test_an_invalid_request_is_refused(servable, settings, text):
    with pytest.raises(ServingError, match=text) as caught:
        run_predict(servable, **settings)
    assert caught.value.code is CODES.get(settings.get("signature"), INVALID)
