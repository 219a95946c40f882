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
from serving.server.errors import ServingError
from serving.server.metrics import Metrics
from tests.serving.models import floats

SPEC = {"name": "halves"}


def request_for(values, **spec):
    request = predict_pb2.PredictRequest(model_spec={**SPEC, **spec})
    array = np.array(values, np.float32)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    return request


@pytest.mark.parametrize(
    "choice", [{}, {"version": {"value": 1}}, {"version_label": "stable"}]
)
def test_a_version_is_found_by_nothing_number_or_label(core, choice):
    response = core.predict(request_for([1, 5], **choice), Deadline(30))
    assert response.outputs["y"].float_val == [2.5, 4.5]
    assert response.model_spec.version.value == 1


def test_examples_are_counted(core):
    before = total(core)
    request = regression_pb2.RegressionRequest(
        model_spec={**SPEC, "signature_name": "regress"}
    )
    request.input.example_list.examples.extend([floats(1), floats(2)])
    assert len(core.regress(request, Deadline(30)).result.regressions) == 2
    request = classification_pb2.ClassificationRequest(
        model_spec={**SPEC, "signature_name": "classify"}, input=request.input
    )
    core.classify(request, Deadline(30))
    several = inference_pb2.MultiInferenceRequest(input=request.input)
    several.tasks.add(
        model_spec=request.model_spec, method_name="tensorflow/serving/classify"
    )
    core.multi_inference(several, Deadline(30))
    assert total(core) == before + 6


def total(core):
    for line in core.metrics.render().splitlines():
        if line.startswith(':tensorflow:serving:request_example_count_total{model="ha'):
            return int(line.split()[-1])
    return 0


def test_the_metadata_are_the_signatures(core):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=SPEC, metadata_field=["signature_def"]
    )
    response = core.get_model_metadata(request)
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) >= {"serving_default", "classify", "regress"}
    assert found.signature_def["serving_default"].inputs["x"].dtype == 1
    assert response.model_spec.version.value == 1
    assert set(core.signatures(model_pb2.ModelSpec(**SPEC))) == set(found.signature_def)


def test_the_status_is_the_managers(core):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=SPEC)
    (version,) = core.get_model_status(request).model_version_status
    assert version.version == 1 and version.state == 30


class Slow:
    """A manager whose only model answers when it is told to."""

    def __init__(self):
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def use(self, spec):
        return self

    def __enter__(self):
        self.entered.release()
        assert self.go.wait(30)
        raise ServingError(grpc.StatusCode.NOT_FOUND, "no model")

    def __exit__(self, *_):
        raise AssertionError


@pytest.mark.parametrize(
    "limits", [Limits(in_flight=1), Limits(in_flight_bytes=100, in_flight=9)]
)
def test_more_than_is_taken_on_at_once_is_refused_and_then_taken(limits):
    manager = Slow()
    core = DataPlane(manager, Metrics(), limits)

    request = request_for([1])
    request.inputs["x"].tensor_shape.dim[0].size = 25  # 100 bytes

    def ask():
        with pytest.raises(ServingError, match="no model"):
            core.predict(request, Deadline(30))

    first = threading.Thread(target=ask)
    first.start()
    assert manager.entered.acquire(timeout=30)
    with pytest.raises(ServingError, match="^Too many .* in flight") as caught:
        core.predict(request, Deadline(30))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    manager.go.set()
    first.join(30)
    ask()


def test_a_reload_is_the_managers(core):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="m", base_path="relative")
    with pytest.raises(ServingError, match="absolute path"):
        core.reload_config(request, Deadline(30))
