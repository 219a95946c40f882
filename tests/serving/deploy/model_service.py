"""Fake ModelService with TF Serving's rules for labels, and without models."""

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
    """Serves `versions`; a label needs a version that is available.

    Attributes:
        states: Version -> state, of versions that are or were served.
        labels: Label -> version.
        lookups: Number of status calls until a version is loaded.
        broken: Version -> message, of versions that do not load.
        configs: All configs received.
    """

    def __init__(self, versions: set[int], lookups: int = 0):
        self.versions, self.lookups = versions, lookups
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
        selected = {max(self.versions)}
        if policy.HasField("specific"):
            selected = set(policy.specific.versions)
        for version in selected & self.versions:
            self.states.setdefault(version, START)
            if self.states[version] == END and version not in self.broken:
                self.states[version] = START
        for version in set(self.states) - selected:
            self.states[version] = END
        return model_management_pb2.ReloadConfigResponse()

    def GetModelStatus(self, request, context):
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in self.states.items():
            entry = response.model_version_status.add(version=version)
            if state == START and self.lookups:
                self.lookups -= 1
            elif state == START:
                self.states[version] = END if version in self.broken else AVAILABLE
            entry.state = self.states[version]
            if entry.state == END and version in self.broken:
                entry.status.error_code = 2
                entry.status.error_message = self.broken[version]
        if not response.model_version_status:
            text = f"Could not find any versions of model {request.model_spec.name}"
            context.abort(grpc.StatusCode.NOT_FOUND, text)
        return response


@contextmanager
def serve(service: ModelService):
    """Yields HOST:PORT of the service."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
