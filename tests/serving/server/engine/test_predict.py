import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine.predict import predict
from serving.server.errors import ServingError

ONE = np.ones(1, np.float32)


def run_predict(servable, signature="", outputs=(), max_bytes=2**20, **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "model"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return predict(servable, request, Deadline(30), max_bytes)


def test_the_response_has_every_output_and_the_version(servable):
    response = run_predict(servable, x=np.array([1.0, 5.0], np.float32))
    assert list(response.outputs) == ["y"]
    assert response.outputs["y"].float_val == [2.5, 4.5]
    spec = response.model_spec
    assert (spec.name, spec.version.value) == ("model", 1)
    assert spec.signature_name == "serving_default"


def test_the_filter_selects_outputs(servable):
    inputs = {"x": ONE, "b": ONE}
    response = run_predict(servable, "add", **inputs)
    assert set(response.outputs) == {"sum", "difference"}
    response = run_predict(servable, "add", ["difference"], **inputs)
    assert list(response.outputs) == ["difference"]


def test_strings_are_returned_in_string_val(servable):
    response = run_predict(servable, "echo", s=[b"\xff\x00", b""])
    assert response.outputs["s_bytes"].string_val == [b"\xff\x00", b""]
    assert response.outputs["length"].int_val == [2, 0]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"outputs": ["y", "y"], "x": ONE}, "^duplicate output tensor alias: y$"),
        ({"z": ONE}, r"alias: x\(feed name: \S+:0\) not found in request .* {z}, or"),
        ({"max_bytes": 3, "x": ONE}, "^tensor parsing error: x$"),
        ({"signature": "__saved_model_init_op"}, "Expected prediction signature"),
    ],
)
def test_an_invalid_request_is_refused(servable, settings, text):
    with pytest.raises(ServingError, match=text):
        run_predict(servable, **settings)
