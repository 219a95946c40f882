"""A ModelService as TF Serving's, in this process: its rules, and no models."""

from collections.abc import Mapping
from concurrent import futures
from contextlib import contextmanager

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.apis.model_service_pb2_grpc import (
    ModelServiceServicer,
    add_ModelServiceServicer_to_server,
)

START, AVAILABLE, END = 10, 30, 50


class ModelService(ModelServiceServicer):
    """Serves versions that are `there`; a label needs a version that is available.

    Attributes:
        states: {version: state} of what is or was served.
        labels: {label: version}.
        looks: How often a version is still looked for in vain before it is there.
        broken: {version: message} of those that do not load.
        configs: Every config that came.
    """

    def __init__(self, there: set[int], looks: int = 0):
        self.there, self.looks = there, looks
        self.states: dict[int, int] = {}
        self.labels: dict[str, int] = {}
        self.broken: Mapping[int, str] = {}
        self.configs = []

    def HandleReloadConfigRequest(self, request, context):
        self.configs.append(request.config)
        (model,) = request.config.model_config_list.config
        for version in model.version_labels.values():
            if self.states.get(version) != AVAILABLE:
                context.abort(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model "
                    f"{model.name}, which is not currently available for inference",
                )
        self.labels = dict(model.version_labels)
        policy = model.model_version_policy
        wanted = {max(self.there)}
        if policy.HasField("specific"):
            wanted = set(policy.specific.versions)
        for version in wanted & self.there:
            self.states.setdefault(version, START)
            if self.states[version] == END and version not in self.broken:
                self.states[version] = START
        for version in set(self.states) - wanted:
            self.states[version] = END
        return model_management_pb2.ReloadConfigResponse()

    def GetModelStatus(self, request, context):
        answer = get_model_status_pb2.GetModelStatusResponse()
        for version, state in self.states.items():
            entry = answer.model_version_status.add(version=version)
            if state == START and self.looks:
                self.looks -= 1
            elif state == START:
                self.states[version] = END if version in self.broken else AVAILABLE
            entry.state = self.states[version]
            if entry.state == END and version in self.broken:
                entry.status.error_code = 2
                entry.status.error_message = self.broken[version]
        if not answer.model_version_status:
            text = f"Could not find any versions of model {request.model_spec.name}"
            context.abort(grpc.StatusCode.NOT_FOUND, text)
        return answer


@contextmanager
def running(service: ModelService):
    """Yields HOST:PORT where the service answers."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
