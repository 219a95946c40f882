"""Errors of TensorFlow Serving that a client can cause, over gRPC and REST.

Source: TensorFlow Serving 2.16.1.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.rest.app import build_app
from tests.serving.models import floats
from tests.serving.server.assertions import call_json, rpc_error

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
TYPES = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}
SPEC = 'model_spec { name: "halves" %s }'
NO_SIGNATURE = SPEC % 'signature_name: "S"'
INPUT = ' inputs { key: "%s" value { dtype: DT_FLOAT %s } }'
ONE = "tensor_shape { dim { size: 1 } } float_val: 1"
FIELD = 'metadata_field: "signature_def"'
RELATIVE = """config { model_config_list { config {
    name: "m" base_path: "relative/path" model_platform: "tensorflow" } } }"""
TABLE = [
    *[
        (name, text, INVALID, "Missing ModelSpec")
        for name, text in (
            ("Predict", ""),
            ("Classify", ""),
            ("Regress", ""),
            ("GetModelStatus", ""),
            ("GetModelMetadata", FIELD),
        )
    ],
    ("Predict", "model_spec {}", INVALID, "ModelSpec has no name specified."),
    ("MultiInference", "", INVALID, "ModelSpec has no name specified."),
    ("Classify", SPEC % "version { value: 7 }", NOT_FOUND, "Specific(halves, 7)"),
    ("Regress", SPEC % 'version_label: "canary"', INVALID, "version label: canary"),
    ("Predict", NO_SIGNATURE, PRECONDITION, 'Serving signature key "S" not found.'),
    (
        "Predict",
        SPEC % 'signature_name: "add"' + INPUT % ("x", ""),
        INVALID,
        "1!=2 len({x}) != len({b,x}). Sent extra: {}. Missing but required: {b}.",
    ),
    (
        "Predict",
        SPEC % "" + INPUT % ("x", "") + INPUT % ("z", ""),
        INVALID,
        "2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    (
        "Predict",
        SPEC % "" + INPUT % ("x", ONE) + 'output_filter: "Z"',
        INVALID,
        "signature: Z Outputs expected to be in the set {y}.",
    ),
    ("Classify", NO_SIGNATURE, INVALID, "No signature was found with the name: S"),
    ("Regress", NO_SIGNATURE, INVALID, "No signature was found with the name: S"),
    ("GetModelMetadata", SPEC % "", INVALID, "at least one metadata_field"),
    ("GetModelMetadata", SPEC % "" + 'metadata_field: "X"', INVALID, "field X is not"),
    ("GetModelStatus", 'model_spec { name: "no" }', NOT_FOUND, "versions of model no"),
    ("HandleReloadConfigRequest", "", INVALID, "Only ModelConfigList is currently"),
    ("HandleReloadConfigRequest", RELATIVE, INVALID, "base_path()=relative/path"),
]


def call(channel, name, message):
    is_model = name in ("GetModelStatus", "HandleReloadConfigRequest")
    service = "ModelService" if is_model else "PredictionService"
    method = channel.unary_unary(f"/tensorflow.serving.{service}/{name}")
    return method(message, timeout=30)


@pytest.mark.parametrize(
    ("name", "request_text", "code", "text"), TABLE, ids=[row[3][:50] for row in TABLE]
)
def test_an_error_over_grpc_has_its_code_and_text(
    channel, name, request_text, code, text
):
    request = text_format.Parse(request_text, TYPES[name]())
    error_code, details = rpc_error(call, channel, name, request.SerializeToString())
    assert error_code is code and text in details


@pytest.mark.parametrize("name", TYPES)
def test_bytes_that_are_no_message_are_an_error(channel, name):
    code, details = rpc_error(call, channel, name, b"\xff\xff\xff")
    assert code is grpc.StatusCode.INTERNAL
    assert details == f"The request is no {TYPES[name].DESCRIPTOR.full_name} message"


def test_an_unknown_method_is_unimplemented(channel):
    for name in ("tensorflow.serving.SessionService/SessionRun", "no.Such/Method"):
        code, _ = rpc_error(channel.unary_unary(f"/{name}"), b"", timeout=30)
        assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_above_the_limit_is_refused_and_the_next_one_is_served(channel):
    code, _ = rpc_error(call, channel, "Predict", b"\0" * (2**22 + 1))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    request = predict_pb2.PredictRequest(model_spec={"name": "halves"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1], np.float32)))
    data = call(channel, "Predict", request.SerializeToString())
    response = predict_pb2.PredictResponse.FromString(data)
    assert response.outputs["y"].float_val == [2.5]
    request = classification_pb2.ClassificationRequest(
        model_spec={"name": "halves", "signature_name": "classify"}
    )
    request.input.example_list.examples.append(floats(1))
    call(channel, "Classify", request.SerializeToString())


HALVES = "/v1/models/halves"
ROW = {"instances": [1.0]}
EXAMPLES = {"signature_name": "S", "examples": [{"x": 1.0}]}
REST = [
    ("/v1/models/no:predict", ROW, 404, "Latest(no)"),
    (f"{HALVES}/versions/7:predict", ROW, 404, "Specific(halves, 7)"),
    (f"{HALVES}/labels/L:predict", ROW, 400, "Unrecognized servable version"),
    (f"{HALVES}:predict", {"instances": ["a"]}, 400, "is not of expected ty"),
    (f"{HALVES}:regress", {"examples": []}, 400, "'examples' value is an empty array"),
    (f"{HALVES}:classify", EXAMPLES, 400, "No signature was found with the name: S"),
    ("/v1/models/no", None, 404, "Could not find any versions of model no"),
    ("/v1/models/no/metadata", None, 404, "Servable not found for request"),
]


@pytest.mark.parametrize(("path", "body", "status", "text"), REST)
def test_an_error_over_rest_has_its_status_and_text(
    data_plane, path, body, status, text
):
    method = "GET" if body is None else "POST"
    response_status, response = call_json(build_app(data_plane), method, path, body)
    assert response_status == status and set(response) == {"error"}
    assert text in response["error"]
