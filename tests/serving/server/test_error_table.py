"""Every error of TensorFlow Serving that a client can cause, word for word.

Source: TensorFlow Serving 2.16.1.
"""

import io
import json
import re

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
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.configs import Batching
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.engine.servable import Servable
from serving.server.grpc.server import GrpcServer
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager
from serving.server.rest.app import build_app
from tests.serving.models import floats

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
FIELD = 'metadata_field: "signature_def"'
LIST = "config {{ model_config_list {{ {} }} }}"
MODEL = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
TABLE = [
    # Which model ---------------------------------------------------------------
    *[
        (name, "", INVALID, "Missing ModelSpec")
        for name in ("Predict", "Classify", "Regress", "GetModelStatus")
    ],
    ("GetModelMetadata", FIELD, INVALID, "Missing ModelSpec"),
    ("Predict", "model_spec {}", INVALID, "ModelSpec has no name specified."),
    ("MultiInference", "", INVALID, "ModelSpec has no name specified."),
    (
        "Predict",
        'model_spec { name: "no" }',
        NOT_FOUND,
        "Servable not found for request: Latest(no)",
    ),
    (
        "Classify",
        'model_spec { name: "halves" version { value: 7 } }',
        NOT_FOUND,
        "Servable not found for request: Specific(halves, 7)",
    ),
    (
        "Regress",
        'model_spec { name: "halves" version_label: "canary" }',
        INVALID,
        "Unrecognized servable version label: canary",
    ),
    # Predict -------------------------------------------------------------------
    (
        "Predict",
        'model_spec { name: "halves" signature_name: "S" }',
        PRECONDITION,
        'Serving signature key "S" not found.',
    ),
    (
        "Predict",
        'model_spec { name: "halves" signature_name: "add" }'
        'inputs { key: "x" value { dtype: DT_FLOAT } }',
        INVALID,
        "input size does not match signature: 1!=2 len({x}) != len({b,x}). Sent extra: "
        "{}. Missing but required: {b}.",
    ),
    (
        "Predict",
        'model_spec { name: "halves" } inputs { key: "x" value { dtype: DT_FLOAT } }'
        'inputs { key: "z" value { dtype: DT_FLOAT } }',
        INVALID,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: "
        "{z}. Missing but required: {}.",
    ),
    (
        "Predict",
        'model_spec { name: "halves" } inputs { key: "x" value { dtype: DT_FLOAT '
        'tensor_shape { dim { size: 3 } } tensor_content: "1" } }',
        INVALID,
        "tensor parsing error: x",
    ),
    (
        "Predict",
        'model_spec { name: "halves" } inputs { key: "x" value { dtype: DT_DOUBLE '
        "tensor_shape { dim { size: 1 } } double_val: 1 } }",
        INVALID,
        "Expects arg[0] to be float but double is provided",
    ),
    (
        "Predict",
        'model_spec { name: "halves" } output_filter: "Z" inputs { key: "x" value { '
        "dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 1 } }",
        INVALID,
        "output tensor alias not found in signature: Z Outputs expected to be in the "
        "set {y}.",
    ),
    # Classify, Regress, MultiInference -----------------------------------------
    *[
        (
            name,
            'model_spec { name: "halves" signature_name: "S" }',
            INVALID,
            "No signature was found with the name: S",
        )
        for name in ("Classify", "Regress")
    ],
    (
        "Classify",
        'model_spec { name: "halves" signature_name: "classify" }',
        INVALID,
        "Input is empty.",
    ),
    (
        "MultiInference",
        'tasks { model_spec { name: "halves" signature_name: "S" } }',
        INVALID,
        "Requested signature not found in model graph: S",
    ),
    # Metadata and status -------------------------------------------------------
    (
        "GetModelMetadata",
        'model_spec { name: "halves" }',
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    (
        "GetModelMetadata",
        'model_spec { name: "halves" } metadata_field: "X"',
        INVALID,
        "Metadata field X is not supported",
    ),
    (
        "GetModelMetadata",
        'model_spec { name: "no" }' + FIELD,
        NOT_FOUND,
        "Servable not found for request: Latest(no)",
    ),
    (
        "GetModelStatus",
        'model_spec { name: "no" }',
        NOT_FOUND,
        "Could not find any versions of model no",
    ),
    (
        "GetModelStatus",
        'model_spec { name: "halves" version { value: 7 } }',
        NOT_FOUND,
        "Could not find version 7 of model halves",
    ),
    # Configs -------------------------------------------------------------------
    (
        "HandleReloadConfigRequest",
        "",
        INVALID,
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
        "ModelConfigList is currently supported",
    ),
    (
        "HandleReloadConfigRequest",
        LIST.format(2 * MODEL.format("m", "/m")),
        INVALID,
        "Illegal to list model m multiple times in config list",
    ),
    (
        "HandleReloadConfigRequest",
        LIST.format(MODEL.format("m", "relative/path")),
        INVALID,
        "Expected model m to have an absolute path or URI; got base_path()="
        "relative/path",
    ),
    (
        "Predict",
        f'model_spec {{ name: "{"n" * 2000}" }}',
        NOT_FOUND,
        "Servable not found for request: Latest(" + "n" * 985 + "...TRUNCATED",
    ),
]


def ask(channel, name, request):
    is_model = name in ("GetModelStatus", "HandleReloadConfigRequest")
    service = "ModelService" if is_model else "PredictionService"
    call = channel.unary_unary(f"/tensorflow.serving.{service}/{name}")
    return call(request, timeout=30)


@pytest.mark.parametrize(
    ("name", "request_text", "code", "text"), TABLE, ids=[row[3][:50] for row in TABLE]
)
def test_an_error_has_its_code_and_its_text(channel, name, request_text, code, text):
    request = text_format.Parse(request_text, TYPES[name]())
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, name, request.SerializeToString())
    assert caught.value.code() is code
    assert caught.value.details() == text


@pytest.mark.parametrize("name", TYPES)
def test_bytes_that_are_no_message_are_an_error(channel, name):
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, name, b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert re.match(
        "The request is no tensorflow.serving.* message", caught.value.details()
    )


def test_a_method_that_is_not_served_is_unimplemented(channel):
    for name in ("tensorflow.serving.SessionService/SessionRun", "no.Such/Method"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{name}")(b"", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_larger_than_the_limit_is_refused(channel):
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, "Predict", b"\0" * (2**22 + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_after_all_that_it_still_answers(channel):
    request = predict_pb2.PredictRequest(model_spec={"name": "halves"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1], np.float32)))
    answer = ask(channel, "Predict", request.SerializeToString())
    response = predict_pb2.PredictResponse.FromString(answer)
    assert response.outputs["y"].float_val == [2.5]
    request = classification_pb2.ClassificationRequest(
        model_spec={"name": "halves", "signature_name": "classify"}
    )
    request.input.example_list.examples.append(floats(1))
    ask(channel, "Classify", request.SerializeToString())


# REST -------------------------------------------------------------------------

HALVES = "/v1/models/halves"
ROW, ROWS = '{"instances": [1.0]}', '{"instances": [{"x": 1.0}]}'
REST = [
    ("POST", "/v1/models/no:predict", ROW, 404, "Latest(no)"),
    ("POST", f"{HALVES}/versions/7:predict", ROW, 404, "Specific(halves, 7)"),
    ("POST", f"{HALVES}/labels/L:predict", ROW, 400, "Unrecognized servable version"),
    ("POST", f"{HALVES}:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
    ("POST", f"{HALVES}:predict", "{", 400, "JSON Parse error: Missing a name for ob"),
    (
        "POST",
        f"{HALVES}:predict",
        '{"signature_name": "add", "inputs": {"x": [1.0]}}',
        400,
        "Missing named input: b in 'inputs' object.",
    ),
    (
        "POST",
        f"{HALVES}:predict",
        '{"signature_name": "S", "instances": [1.0]}',
        400,
        'Serving signature name: "S" not found in signature def',
    ),
    ("POST", f"{HALVES}:predict", '{"instances": ["a"]}', 400, "is not of expected ty"),
    ("POST", f"{HALVES}:regress", '{"examples": []}', 400, ""),
    (
        "POST",
        f"{HALVES}:classify",
        '{"signature_name": "S", "examples": [{"x": 1.0}]}',
        400,
        "No signature was found with the name: S",
    ),
    ("GET", "/v1/models/no", "", 404, "Could not find any versions of model no"),
    (
        "GET",
        f"{HALVES}/versions/7",
        "",
        404,
        "Could not find version 7 of model halves",
    ),
    ("GET", "/v1/models/no/metadata", "", 404, "Servable not found for request"),
    ("POST", "/v1/nothing", "{}", 400, "Malformed request: POST /v1/nothing"),
]


def call(app, method, path, body=""):
    """Asks a WSGI application; returns the status and what the JSON says."""
    seen = []
    data = body.encode()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "REQUEST_URI": path,
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": io.BytesIO(data),
    }
    parts = app(environ, lambda status, headers: seen.append(status))
    return int(seen[0].split()[0]), json.loads(b"".join(parts))


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REST)
def test_over_rest_an_error_has_its_status_and_its_text(
    core, method, path, body, status, text
):
    found, answer = call(build_app(core), method, path, body)
    assert found == status and set(answer) == {"error"}
    assert text in answer["error"] and answer["error"]


# Batches ----------------------------------------------------------------------


@pytest.fixture
def batched(halves):
    """A core with a batch that stays open for ever, and what ends that."""
    scheduler = BatchScheduler(
        Batching(
            max_batch_size=4,
            batch_timeout_micros=10**12,
            max_enqueued_batches=1,
            num_batch_threads=1,
        )
    )
    manager = Manager(
        lambda name, version, path: Servable(
            name, version, path, room=WeightedSemaphore(99, "rows"), scheduler=scheduler
        ),
        say=lambda line: None,
    )
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name="halves", base_path=str(halves), model_platform="tensorflow"
    )
    manager.apply(config)
    yield DataPlane(manager, Metrics(), Limits()), scheduler
    scheduler.close()
    manager.close()


def test_a_full_queue_and_a_time_that_ended_in_it_are_errors_through_both_doors(
    batched,
):
    core, scheduler = batched
    door = GrpcServer(core, "127.0.0.1", 0, threads=4, message_bytes=2**20)
    door.start()
    request = predict_pb2.PredictRequest(model_spec={"name": "halves"})
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(2, np.float32)))
    message, path = request.SerializeToString(), f"{HALVES}:predict"
    full = "The batch scheduling queue to which this task was submitted is full; cur"
    full += "rently 1 batches enqueued and max_enqueued_batches is 1"
    with grpc.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        waiting = predict.future(message)  # 2 rows of 4
        late = "Run() timeout exceeded while waiting in batching queue"
        assert call(build_app(core, timeout_s=1.0), "POST", path, ROW) == (
            429,
            {"error": late},
        )
        with pytest.raises(grpc.RpcError) as caught:  # 2 and 1 and 2 are no 4
            predict(message, timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == full
        body = '{"instances": [1.0, 2.0]}'
        assert call(build_app(core), "POST", path, body) == (503, {"error": full})
        scheduler.close()  # which runs what waits
        answer = predict_pb2.PredictResponse.FromString(waiting.result(30))
        assert answer.outputs["y"].float_val == [2.5, 2.5]
    door.stop(5)
