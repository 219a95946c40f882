"""Manager of the served models: follows a config, base paths and version labels."""

import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import (
    ModelConfig,
    ModelServerConfig,
)

from serving.server.configs import check_models
from serving.server.deadline import Deadline
from serving.server.errors import (
    ServingError,
    failed_precondition,
    invalid_argument,
    not_found,
)
from serving.server.models.model_loader import Load, ModelLoader
from serving.server.models.version_states import AVAILABLE, END, Version, VersionStates
from serving.server.models.versions import BasePathWatcher

_POLLER_TIMEOUT_S = 5.0  # maximum wait of `close` for a running check of base paths


class ModelHandle(NamedTuple):
    """Version that stays open while a request uses it."""

    name: str
    version: int
    servable: Any


class _HandleContext:
    """Context that acquires a version; twice as fast as a generator."""

    __slots__ = ("_manager", "_spec", "_version")

    def __init__(self, manager: "Manager", spec: ModelSpec):
        self._manager, self._spec = manager, spec

    def __enter__(self) -> ModelHandle:
        version = self._version = self._manager._acquire_version(self._spec)
        return ModelHandle(version.name, version.number, version.servable)

    def __exit__(self, *_) -> None:
        self._manager._loader.release(self._version)


class Manager:
    """Loads and unloads the models of a config as their base paths change.

    Attributes:
        watcher: Lists the base paths.
    """

    def __init__(
        self,
        load: Load,
        *,
        poll_s: float = 1.0,
        load_retries: int = 5,
        retry_s: float = 60.0,
        allow_unavailable_labels: bool = False,
        log: Callable[[str], object] = print,
    ):
        """Creates a manager without models.

        Args:
            load: Loads and warms up a version; returns a servable with `close()`, or
                raises ServingError or another exception.
            poll_s: Seconds between two checks of the base paths.
            load_retries: Retries after the first failed load of a version.
            retry_s: Seconds between two retries.
            allow_unavailable_labels: Whether an unused label may be assigned to a
                version that is not available yet, as TF Serving's flag
                --allow_version_labels_for_unavailable_models does.
            log: Receives lines of the log, from several threads.

        Source of the defaults: TensorFlow Serving 2.16.1, main.cc.
        """
        self._loader = ModelLoader(
            load, load_retries=load_retries, retry_s=retry_s, log=log
        )
        self._changed, self._lock = self._loader.changed, self._loader.lock
        self._poll_s = poll_s
        self._allow_unavailable_labels = allow_unavailable_labels
        self._config = ModelServerConfig()
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[tuple[str, str], int] = {}
        self._is_closed = False
        self._check_now = threading.Event()
        self.watcher = BasePathWatcher(self._loader.log)
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def apply(
        self, config: ModelServerConfig, deadline: Deadline | None = None
    ) -> None:
        """Replaces the list of models, and waits for the new ones.

        It waits for a new model until one of its versions is available or all have
        failed; without versions, until one appears. A refused config changes nothing. A
        model that does not load stays in the list. A model of the previous list follows
        its new base path or policy, without a wait.

        Raises:
            ServingError: The config is refused, or a new model did not load; or, during
                the wait: the deadline passed, the manager closed, a later config came.
        """
        config_copy = ModelServerConfig.FromString(config.SerializeToString())
        with self._changed:
            previous, is_first = self._models, not self._config.WhichOneof("config")
            new_models = self._replace(config_copy)
            moved = [
                name
                for name, model in self._models.items()
                if name in previous and previous[name].base_path != model.base_path
            ]
        for name in moved:
            self._loader.log(
                f"Model {name} has another base path. A version that serves is not "
                "loaded again from there, as in TF Serving: give it another number."
            )
        self._check_now.set()
        self._wait_for(new_models, config_copy, deadline or Deadline(), is_first)

    def use(self, spec: ModelSpec) -> AbstractContextManager[ModelHandle]:
        """Returns a context that keeps the requested version open.

        Raises:
            ServingError: On entering: no model name; unknown model, version or label.
        """
        return _HandleContext(self, spec)

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """Returns the state of one version, or of all, the highest first.

        Labels are ignored, as in TF Serving.

        Raises:
            ServingError: The version is unknown, or the model has none.
        """
        response = GetModelStatusResponse()
        with self._changed:
            states = self._loader.version_states.get(spec.name)
            versions = states.versions if states else {}
            if spec.WhichOneof("version_choice") == "version":
                number = spec.version.value
                if number not in versions:
                    raise not_found(
                        f"Could not find version {number} of model {spec.name}"
                    )
                versions = {number: versions[number]}
            elif not versions:
                raise not_found(f"Could not find any versions of model {spec.name}")
            for number in sorted(versions, reverse=True):
                _describe(versions[number], response.model_version_status.add())
        return response

    def available(self) -> dict[str, tuple[int, ...]]:
        """Returns {model of the config: its available versions, ascending}."""
        with self._changed:
            return {
                name: tuple(
                    v.number for v in self._loader.version_states[name].available
                )
                for name in self._models
            }

    def close(self, drain_s: float = 30.0) -> bool:
        """Stops the poller, waits for users, closes all; returns whether it could.

        Versions in use for longer than `drain_s` stay open.
        """
        with self._changed:
            self._is_closed, self._models = True, {}
            self._changed.notify_all()
        self._check_now.set()
        all_closed = self._loader.close(drain_s)
        if self._poller.is_alive():
            self._poller.join(_POLLER_TIMEOUT_S)
        return all_closed

    def _replace(self, config: ModelServerConfig) -> list[str]:
        """Sets a new config; returns the new models' names. The lock must be held."""
        if self._is_closed:
            raise ServingError(StatusCode.UNAVAILABLE, "The server has stopped")
        check_models(config, self._config)
        labels = self._check_labels(config)
        models = {model.name: model for model in config.model_config_list.config}
        new_models = [name for name in models if name not in self._models]
        removed = [name for name in self._models if name not in models]
        self._config, self._models, self._labels = config, models, labels
        for name in models:
            self._loader.version_states.setdefault(name, VersionStates(name))
        for name in removed:
            self._loader.set_desired_versions(name, {})
        self._changed.notify_all()
        if self._poller.ident is None:
            self._poller.start()
        return new_models

    def _acquire_version(self, spec: ModelSpec) -> Version:
        name, choice = spec.name, spec.WhichOneof("version_choice")
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        number = spec.version.value if choice == "version" else None
        with self._lock:
            if choice == "version_label":
                number = self._labels.get((name, spec.version_label))
                if number is None:
                    raise invalid_argument(
                        f"Unrecognized servable version label: {spec.version_label}"
                    )
            version = self._loader.acquire(name, number)
        if version is None:
            target = (
                f"Latest({name})" if number is None else f"Specific({name}, {number})"
            )
            raise not_found(f"Servable not found for request: {target}")
        return version

    def _check_labels(self, config: ModelServerConfig) -> dict[tuple[str, str], int]:
        labels = {}
        for model in config.model_config_list.config:
            states = self._loader.version_states.get(model.name)
            for label, number in sorted(model.version_labels.items()):
                version = states.versions.get(number) if states else None
                key = model.name, label
                is_free = (
                    self._allow_unavailable_labels
                    and self._labels.get(key, number) == number
                )
                if not is_free and (version is None or version.state != AVAILABLE):
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model "
                        f"{model.name}, which is not currently available for inference"
                    )
                labels[key] = number
        return labels

    def _wait_for(
        self,
        names: list[str],
        config: ModelServerConfig,
        deadline: Deadline,
        first: bool,
    ) -> None:
        with self._changed:
            version_states = [self._loader.version_states[name] for name in names]
            self._changed.wait_for(
                lambda: (
                    self._is_closed
                    or self._config is not config
                    or deadline.is_over
                    or all(states.is_settled for states in version_states)
                ),
                deadline.remaining_s(),
            )
            failed = [states for states in version_states if not states.serves]
            if not failed:
                return
            listed = ", ".join(states.name for states in failed)
            if self._is_closed:
                raise ServingError(StatusCode.UNAVAILABLE, "The server has stopped")
            if self._config is not config:
                text = f"A later config came while waiting for: {listed}"
                raise ServingError(StatusCode.ABORTED, text)
            if not all(states.is_settled for states in failed):
                text = f"The time was over while waiting for: {listed}"
                raise ServingError(StatusCode.DEADLINE_EXCEEDED, text)
            raise _unavailable(failed, "servable" if first else "model")

    def _poll(self) -> None:
        while not self._is_closed:
            self._check_now.clear()
            for model in list(self._models.values()):
                try:
                    self._check(model)
                except Exception:  # one model must not end the polling of the others
                    self._loader.log(traceback.format_exc())
            self._check_now.wait(self._poll_s)

    def _check(self, model: ModelConfig) -> None:
        locations = self.watcher.check_base_path(model)
        with self._changed:
            # The config may have changed meanwhile.
            if locations is not None and self._models.get(model.name) is model:
                self._loader.set_desired_versions(model.name, locations)


def _unavailable(version_states: list[VersionStates], noun: str) -> ServingError:
    """Returns the error of models that failed to load, in TF Serving's words."""
    reasons = "".join(f"{{{states.failure()}}}, " for states in version_states)
    text = f"{len(version_states)} {noun}(s) did not become available: {{{reasons}}}"
    return ServingError(StatusCode.UNKNOWN, text)


def _describe(version: Version, status: ModelVersionStatus) -> None:
    status.version, status.state = version.number, version.state
    status.status.SetInParent()  # OK, which some clients require
    if version.state == END and version.error:
        status.status.error_code = version.error.code.value[0]
        status.status.error_message = version.error.truncated_message
