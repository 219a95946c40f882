import re
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import MagicMock

import grpc
import pytest
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.server.deadline import Deadline
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.errors import not_found
from serving.server.metrics import Metrics
from tests.serving.models import floats
from tests.serving.server.assertions import WAIT_S, predict_request, serving_error

SPEC = {"name": "halves"}
CLASSIFY = {**SPEC, "signature_name": "classify"}
TASK = {"model_spec": CLASSIFY, "method_name": "tensorflow/serving/classify"}
MODEL = {"name": "m", "base_path": "relative", "model_platform": "tensorflow"}
RELATIVE = {"model_config_list": {"config": [MODEL]}}
TWO = {"example_list": {"examples": [floats(1), floats(2)]}}
CONTEXT = floats(1)
CONTEXT.features.feature["z"].bytes_list.value.append(b"z" * 2**22)
HUGE = {"context": CONTEXT, "examples": [floats(2)] * 200}  # 4 MiB become 1600 MiB
HUGE = {"example_list_with_context": HUGE}


def infer(data_plane, method, data):
    request = {
        "classify": ClassificationRequest(model_spec=CLASSIFY),
        "regress": RegressionRequest(model_spec={**SPEC, "signature_name": "regress"}),
        "multi_inference": MultiInferenceRequest(tasks=[TASK]),
    }[method]
    request.input.MergeFrom(type(request.input)(**data))
    return getattr(data_plane, method)(request, Deadline(30))


@pytest.mark.parametrize("method", ["classify", "regress", "multi_inference"])
def test_examples_are_counted_and_their_contexts_limited(data_plane, method):
    def total():
        page = data_plane.metrics.render()
        return sum(map(int, re.findall(r"example_count_total\{.*\} (\d+)", page)))

    before = total()
    infer(data_plane, method, TWO)
    assert total() == before + 2
    error = serving_error(infer, data_plane, method, HUGE)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message.endswith(f"bytes of requests, and the limit is {2**30}")


def metadata(*fields):
    return GetModelMetadataRequest(model_spec=SPEC, metadata_field=fields)


def test_the_metadata_are_the_signatures(data_plane):
    response = data_plane.get_model_metadata(metadata("signature_def"))
    content = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(content)
    assert set(content.signature_def) >= {"serving_default", "classify", "regress"}
    assert content.signature_def["serving_default"].inputs["x"].dtype == 1
    assert response.model_spec.version.value == 1


@pytest.mark.parametrize(
    ("method", "request_message", "text"),
    [
        ("predict", PredictRequest(), "Missing ModelSpec"),
        ("classify", ClassificationRequest(), "Missing ModelSpec"),
        ("regress", RegressionRequest(), "Missing ModelSpec"),
        ("get_model_status", GetModelStatusRequest(), "Missing ModelSpec"),
        ("get_model_metadata", GetModelMetadataRequest(), "Missing ModelSpec"),
        ("multi_inference", MultiInferenceRequest(), "ModelSpec has no name specified"),
        ("get_model_metadata", metadata(), "at least one metadata_field"),
        ("get_model_metadata", metadata("X"), "Metadata field X is not supported"),
        ("reload_config", ReloadConfigRequest(), "Only ModelConfigList is currently"),
        ("reload_config", ReloadConfigRequest(config=RELATIVE), "base_path()=relative"),
    ],
)
def test_an_incomplete_request_is_refused(data_plane, method, request_message, text):
    deadline = [] if method.startswith("get_") else [Deadline(30)]
    error = serving_error(getattr(data_plane, method), request_message, *deadline)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT and text in error.message


@pytest.mark.parametrize(
    "limits", [Limits(in_flight=1), Limits(in_flight_bytes=1000, in_flight=9)]
)
def test_requests_above_a_limit_are_refused_until_others_end(limits):
    entered, go, manager = threading.Semaphore(0), threading.Event(), MagicMock()

    def enter(*_):
        entered.release()
        assert go.wait(WAIT_S)
        raise not_found("no model")

    manager.use.return_value.__enter__.side_effect = enter
    data_plane = DataPlane(manager, Metrics(), limits)
    request = predict_request([1])
    for name, size in (("x", 130), ("b", 120)):  # they declare 1000 bytes
        request.inputs[name].CopyFrom(request.inputs["x"])
        request.inputs[name].tensor_shape.dim[0].size = size

    def predict():
        return serving_error(data_plane.predict, request, Deadline(WAIT_S))

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(predict)
        assert entered.acquire(timeout=WAIT_S)
        error = predict()
        go.set()
        first.result(WAIT_S)
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.message.startswith("Too many ")
    assert predict().message == "no model"
