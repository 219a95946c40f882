"""Transport-independent server API: protobuf requests to protobuf responses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
from serving.server.engine import inference
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.predict import predict
from serving.server.engine.tensors import expanded_bytes
from serving.server.errors import invalid_argument
from serving.server.metrics import Metrics
from serving.server.models.lifecycle import Version as ModelHandle
from serving.server.models.manager import Manager

_SIGNATURE_DEF = "signature_def"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the server's concurrent work.

    Attributes:
        in_flight: Concurrent requests to models.
        in_flight_bytes: Total bytes of the concurrent requests.
        message_bytes: Bytes of one request, and of one tensor in it.
        rows: Rows that run at once without batching.
    """

    in_flight: int = 256
    in_flight_bytes: int = 2**30
    message_bytes: int = 2**28
    rows: int = 1000


class DataPlane:
    """Runs requests on the model versions of a manager; thread-safe.

    Attributes:
        bytes: Semaphore of request bytes. The gRPC and REST servers acquire what they
            read and decompress.
    """

    def __init__(self, manager: Manager, metrics: Metrics, limits: Limits):
        self.metrics = metrics
        self._manager, self._limits = manager, limits
        self._requests = WeightedSemaphore(limits.in_flight, "requests")
        self.bytes = WeightedSemaphore(limits.in_flight_bytes, "bytes of requests")

    def predict(
        self, request: predict_pb2.PredictRequest, deadline: Deadline
    ) -> predict_pb2.PredictResponse:
        """Returns the outputs of a signature.

        Raises:
            ServingError: With TensorFlow Serving's code and text, as all methods here.
        """
        limit = self._limits.message_bytes
        extra_bytes = sum(expanded_bytes(p, limit) for p in request.inputs.values())
        with self.bytes.try_acquire(extra_bytes), self.admit(_spec(request)) as handle:
            return predict(handle.servable, request, deadline, limit)

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: Deadline
    ) -> classification_pb2.ClassificationResponse:
        """Returns the classes of tf.Examples."""
        return self._infer(inference.classify, request, deadline)

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: Deadline
    ) -> regression_pb2.RegressionResponse:
        """Returns the values of tf.Examples."""
        return self._infer(inference.regress, request, deadline)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: Deadline
    ) -> inference_pb2.MultiInferenceResponse:
        """Returns classes and values of tf.Examples from several signatures."""
        first = request.tasks[0] if request.tasks else None
        if first is None or not first.HasField("model_spec"):
            first = inference_pb2.InferenceTask(model_spec=model_pb2.ModelSpec())
        return self._infer(inference.multi_inference, request, deadline, first)

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures of a version."""
        spec = _spec(request)
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._manager.use(spec) as handle:
            response.model_spec.name = handle.name
            response.model_spec.version.value = handle.version
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=handle.servable.signatures
            )
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of a model's versions."""
        return self._manager.status(_spec(request))

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, deadline: Deadline
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models and waits for the new ones."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        self._manager.apply(request.config, deadline)
        return model_management_pb2.ReloadConfigResponse(status={})

    def _infer(
        self, run: Callable, request: Any, deadline: Deadline, spec_source: Any = None
    ):
        with (
            self.admit(_spec(spec_source or request)) as handle,
            self.bytes.try_acquire(inference.serialized_bytes(request.input)),
        ):
            examples = inference.count_examples(request.input)
            response = run(handle.servable, request, deadline)
        self.metrics.request_example_counts.observe(examples, model=handle.name)
        self.metrics.request_example_count_total.increment(examples, model=handle.name)
        return response

    @contextmanager
    def admit(self, spec: model_pb2.ModelSpec) -> Iterator[ModelHandle]:
        """Keeps the version that `spec` names open, for one request to a model.

        Raises:
            ServingError: Too many requests are running, or there is no such version.
        """
        with self._requests.try_acquire(1), self._manager.use(spec) as handle:
            yield handle


def _spec(request) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec
