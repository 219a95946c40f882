"""The server without a wire: protobuf requests in, protobuf responses out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tensorflow.core.protobuf import meta_graph_pb2
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
from serving.server.engine.tensors import claimed_bytes
from serving.server.errors import invalid_argument
from serving.server.metrics import Metrics
from serving.server.models.manager import Manager, ModelHandle

_SIGNATURE_DEF = "signature_def"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server takes on at most.

    Attributes:
        in_flight: Requests to models at once.
        in_flight_bytes: Their bytes together.
        message_bytes: Bytes of one request, and of a tensor that it stands for.
        rows: Rows of models that run at once where there are no batches.
    """

    in_flight: int = 256
    in_flight_bytes: int = 2**30
    message_bytes: int = 2**28
    rows: int = 1000


class DataPlane:
    """Answers requests by the versions that a manager holds; from any thread.

    Attributes:
        metrics: What is counted.
        bytes: Room for requests; the doors take what they read and inflate.
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
            ServingError: As TensorFlow Serving has it; so do all of these.
        """
        most = self._limits.message_bytes
        claimed = sum(claimed_bytes(proto, most) for proto in request.inputs.values())
        with self._held(request, request, claimed) as held:
            return predict(held.servable, request, deadline, most)

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: Deadline
    ) -> classification_pb2.ClassificationResponse:
        """Returns the classes of tf.Examples."""
        return self._infer(inference.classify, request, request, deadline)

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: Deadline
    ) -> regression_pb2.RegressionResponse:
        """Returns the values of tf.Examples."""
        return self._infer(inference.regress, request, request, deadline)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: Deadline
    ) -> inference_pb2.MultiInferenceResponse:
        """Returns classes and values of tf.Examples, by several signatures."""
        first = request.tasks[0] if request.tasks else None
        if first is None or not first.HasField("model_spec"):
            first = inference_pb2.InferenceTask(model_spec=model_pb2.ModelSpec())
        return self._infer(inference.multi_inference, request, first, deadline)

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
        found = get_model_metadata_pb2.SignatureDefMap()
        with self._manager.use(spec) as held:
            for name, signature in held.servable.signatures.items():
                found.signature_def[name].CopyFrom(signature)
            response.model_spec.name = held.name
            response.model_spec.version.value = held.version
        response.metadata[_SIGNATURE_DEF].Pack(found)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of the versions of a model."""
        return self._manager.status(_spec(request))

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest, deadline: Deadline
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models, and waits for the new ones."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        self._manager.apply(request.config, deadline)
        return model_management_pb2.ReloadConfigResponse(status={})

    def signatures(
        self, spec: model_pb2.ModelSpec
    ) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """Returns the signatures of the version that a request asks for."""
        with self._manager.use(spec) as held:
            return held.servable.signatures

    def _infer(self, answer: Callable, request: Any, asking: Any, deadline: Deadline):
        with self._held(request, asking) as held:
            examples = inference.examples_in(request.input)
            response = answer(held.servable, request, deadline)
        self.metrics.request_example_counts.observe(examples, model=held.name)
        self.metrics.request_example_count_total.increment(examples, model=held.name)
        return response

    @contextmanager
    def _held(self, request, asking, claimed: int = 0) -> Iterator[ModelHandle]:
        """Holds room for the request, and the version that `asking` names.

        A few bytes may stand for large tensors, of which `claimed` is the size; the
        door has room for the bytes that came.
        """
        spec = _spec(asking)
        with ExitStack() as stack:
            stack.enter_context(self._requests.taken_now(1))
            more = max(0, claimed - request.ByteSize())
            stack.enter_context(self.bytes.taken_now(more))
            yield stack.enter_context(self._manager.use(spec))


def _spec(request) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec
