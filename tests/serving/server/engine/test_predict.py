import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine.predict import predict
from serving.server.errors import ServingError


def ask(servable, signature="", outputs=(), most_bytes=2**20, **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "asked"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return predict(servable, request, Deadline(30), most_bytes)


def test_the_answer_has_every_output_and_says_who_answered(servable):
    response = ask(servable, x=np.array([1.0, 5.0], np.float32))
    assert list(response.outputs) == ["y"]
    assert response.outputs["y"].float_val == [2.5, 4.5]
    spec = response.model_spec
    assert (spec.name, spec.version.value) == ("asked", 1)
    assert spec.signature_name == "serving_default"


def test_only_the_outputs_of_the_filter_are_answered(servable):
    two = {"x": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    assert set(ask(servable, "add", **two).outputs) == {"sum", "difference"}
    assert list(ask(servable, "add", ["difference"], **two).outputs) == ["difference"]


def test_strings_come_back_in_string_val(servable):
    response = ask(servable, "echo", s=[b"\xff\x00", b""])
    assert response.outputs["s_bytes"].string_val == [b"\xff\x00", b""]
    assert response.outputs["length"].int_val == [2, 0]


def test_a_duplicate_in_the_filter_is_refused(servable):
    with pytest.raises(ServingError, match="^duplicate output tensor alias: y$"):
        ask(servable, "", ["y", "y"], x=np.ones(1, np.float32))


def test_as_many_inputs_of_other_names_are_refused(servable):
    text = r"alias: x\(feed name: \S+:0\) not found in request .* the request {z}, or"
    with pytest.raises(ServingError, match=text):
        ask(servable, z=np.ones(1, np.float32))


def test_a_tensor_that_is_larger_than_a_message_may_be_is_refused(servable):
    with pytest.raises(ServingError, match="^tensor parsing error: x$"):
        ask(servable, most_bytes=7, x=np.ones(2, np.float32))


def test_a_signature_without_a_method_is_refused(servable):
    with pytest.raises(ServingError, match=r"Expected prediction signature method_na"):
        ask(servable, "__saved_model_init_op")
