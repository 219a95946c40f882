import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.deadline import Deadline
from serving.server.engine.data_plane import DataPlane, Limits
from serving.server.errors import ServingError, not_found
from serving.server.metrics import Metrics
from tests.serving.models import floats
from tests.serving.server.assertions import WAIT_S, serving_error

SPEC = {"name": "halves"}


def predict_request(values, **spec):
    request = predict_pb2.PredictRequest(model_spec={**SPEC, **spec})
    array = np.array(values, np.float32)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    return request


@pytest.mark.parametrize(
    "choice", [{}, {"version": {"value": 1}}, {"version_label": "stable"}]
)
def test_a_version_is_chosen_by_default_number_or_label(data_plane, choice):
    response = data_plane.predict(predict_request([1, 5], **choice), Deadline(30))
    assert response.outputs["y"].float_val == [2.5, 4.5]
    assert response.model_spec.version.value == 1


def test_examples_are_counted(data_plane):
    def total():
        for line in data_plane.metrics.render().splitlines():
            if line.startswith(":tensorflow:serving:request_example_count_total{"):
                return int(line.split()[-1])
        return 0

    before, deadline = total(), Deadline(30)
    request = regression_pb2.RegressionRequest(
        model_spec={**SPEC, "signature_name": "regress"}
    )
    request.input.example_list.examples.extend([floats(1), floats(2)])
    assert len(data_plane.regress(request, deadline).result.regressions) == 2
    request = classification_pb2.ClassificationRequest(
        model_spec={**SPEC, "signature_name": "classify"}, input=request.input
    )
    data_plane.classify(request, deadline)
    several = inference_pb2.MultiInferenceRequest(input=request.input)
    several.tasks.add(
        model_spec=request.model_spec, method_name="tensorflow/serving/classify"
    )
    data_plane.multi_inference(several, deadline)
    assert total() == before + 6


def test_the_metadata_are_the_signatures(data_plane):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=SPEC, metadata_field=["signature_def"]
    )
    response = data_plane.get_model_metadata(request)
    content = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(content)
    signatures = content.signature_def
    assert set(signatures) >= {"serving_default", "classify", "regress"}
    assert signatures["serving_default"].inputs["x"].dtype == 1
    assert response.model_spec.version.value == 1
    assert set(data_plane.signatures(model_pb2.ModelSpec(**SPEC))) == set(signatures)


def test_status_and_reload_use_the_manager(data_plane):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=SPEC)
    (version,) = data_plane.get_model_status(request).model_version_status
    assert version.version == 1 and version.state == 30
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="m", base_path="relative")
    with pytest.raises(ServingError, match="absolute path"):
        data_plane.reload_config(request, Deadline(30))


class SlowManager:
    """Manager whose only model responds after `go`."""

    def __init__(self):
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def use(self, spec):
        return self

    def __enter__(self):
        self.entered.release()
        assert self.go.wait(WAIT_S)
        raise not_found("no model")

    def __exit__(self, *_):
        raise AssertionError


@pytest.mark.parametrize(
    "limits", [Limits(in_flight=1), Limits(in_flight_bytes=100, in_flight=9)]
)
def test_requests_above_a_limit_are_refused_until_others_end(limits):
    manager = SlowManager()
    data_plane = DataPlane(manager, Metrics(), limits)
    request = predict_request([1])
    request.inputs["x"].tensor_shape.dim[0].size = 25  # 100 bytes

    def predict():
        return serving_error(data_plane.predict, request, Deadline(WAIT_S))

    first = threading.Thread(target=predict)
    first.start()
    assert manager.entered.acquire(timeout=WAIT_S)
    error = predict()
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.message.startswith("Too many ")
    manager.go.set()
    first.join(WAIT_S)
    assert predict().message == "no model"
