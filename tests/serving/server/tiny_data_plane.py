"""Fake data plane with one model, y = x / 2 + 2, and signatures that echo inputs."""

import threading

import grpc
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.engine.admission import WeightedSemaphore
from serving.server.errors import ServingError, invalid_argument, not_found
from serving.server.metrics import Metrics

NAME = "half_plus_two"
DTYPES = {
    name[3:].lower(): number
    for name, number in types_pb2.DataType.items()
    if name.removeprefix("DT_")
    in ("FLOAT DOUBLE INT8 INT16 INT32 INT64 UINT8 UINT32 UINT64 BOOL STRING").split()
}


def signature(**inputs):
    """Returns a signature with inputs of these dtypes, by name."""
    infos = {k: TensorInfo(name=f"{k}:0", dtype=v) for k, v in inputs.items()}
    return SignatureDef(inputs=infos, method_name="tensorflow/serving/predict")


class TinyDataPlane:
    """Implements the data plane's methods that the REST API calls.

    Attributes:
        gate: Event that requests wait for; set at first.
        error: Error of the next requests, or None.
        deadlines: Deadlines of the requests.
        requests: Received requests.
    """

    def __init__(self):
        self.metrics = Metrics()
        self.bytes = WeightedSemaphore(2**30, "bytes")
        self.gate = threading.Event()
        self.gate.set()
        self.error = None
        self.deadlines, self.requests = [], []
        self.known_signatures = {
            "serving_default": signature(x=types_pb2.DT_FLOAT),
            "two": signature(a=types_pb2.DT_FLOAT, b=types_pb2.DT_INT64),
            "none": SignatureDef(),
            "half": signature(x=types_pb2.DT_HALF),
        }
        for name, dtype in DTYPES.items():
            self.known_signatures[f"echo_{name}"] = signature(x=dtype)

    def _check(self, request, deadline=None):
        self.requests.append(request)
        self.deadlines.append(deadline)
        assert self.gate.wait(60)
        if self.error:
            raise self.error
        spec = request.model_spec
        if spec.version_label not in ("", "stable"):
            raise invalid_argument(
                f"Unrecognized servable version label: {spec.version_label}"
            )
        if spec.name != NAME or spec.version.value not in (0, 1):
            which = f"Specific({spec.name}, {spec.version.value})"
            if not spec.HasField("version"):
                which = f"Latest({spec.name})"
            raise not_found(f"Servable not found for request: {which}")

    def signatures(self, spec):
        request = predict_pb2.PredictRequest(model_spec=spec)
        self._check(request)
        return self.known_signatures

    def predict(self, request, deadline):
        self._check(request, deadline)
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        name = request.model_spec.signature_name or "serving_default"
        if name not in self.known_signatures:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found.',
            )
        arrays = {key: tf.make_ndarray(t) for key, t in request.inputs.items()}
        if name == "serving_default":
            arrays = {"y": arrays["x"] / 2 + 2}
        for key, array in arrays.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(array))
        return response

    def classify(self, request, deadline):
        self._check(request, deadline)
        response = classification_pb2.ClassificationResponse()
        for _ in request.input.example_list.examples:
            classes = response.result.classifications.add().classes
            classes.add(label="cat", score=0.75)
            classes.add(label="dog", score=0.25)
        return response

    def regress(self, request, deadline):
        self._check(request, deadline)
        response = regression_pb2.RegressionResponse()
        for example in request.input.example_list.examples:
            x = example.features.feature["x"].float_list.value[0]
            response.result.regressions.add(value=x / 2 + 2)
        return response

    def get_model_status(self, request):
        self._check(request)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=1, state=30)
        response.model_version_status[0].status.error_message = ""
        return response

    def get_model_metadata(self, request):
        self._check(request)
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=request.model_spec
        )
        known = get_model_metadata_pb2.SignatureDefMap(
            signature_def=self.known_signatures
        )
        response.metadata["signature_def"].Pack(known)
        return response
