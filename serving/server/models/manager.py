"""Manager of the served models: follows a config, base paths and version labels."""

from collections.abc import Callable, Iterable, Iterator
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

from mmkeras.errors import UserError
from serving.server import errors
from serving.server.configs import check_models, read_model_config
from serving.server.deadline import Deadline
from serving.server.errors import ServingError
from serving.server.models.base_paths import find_versions
from serving.server.models.lifecycle import END, Lifecycle, Load, Log, Model, Version
from serving.server.models.polling import Poller


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
        version = self._version = self._manager._acquire(self._spec)
        return ModelHandle(version.name, version.number, version.servable)

    def __exit__(self, *_) -> None:
        self._manager._lifecycle.release(self._version)


class Manager:
    """Loads and unloads the models of a config as their base paths change."""

    def __init__(
        self,
        load: Load,
        *,
        poll_s: float = 1.0,
        load_retries: int = 5,
        retry_s: float = 60.0,
        allow_unavailable_labels: bool = False,
        log: Log = print,
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
        self._lifecycle = Lifecycle(load, load_retries, retry_s, log)
        self._changed, self._lock = self._lifecycle.changed, self._lifecycle.lock
        self._allow_unavailable_labels = allow_unavailable_labels
        self._config = ModelServerConfig()
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[tuple[str, str], int] = {}
        self._is_closed = False
        self._pollers: list[Poller] = []
        self._poll(self._check_base_path, lambda: list(self._models.values()), poll_s)

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
        noun = "model" if self._config.WhichOneof("config") else "servable"
        config = ModelServerConfig.FromString(config.SerializeToString())
        self._wait_for(self._replace(config), config, deadline or Deadline(), noun)

    def watch_config_file(self, path: str, interval_s: float) -> None:
        """Applies the file of the current config again when its models change.

        New models are not awaited, so that a later change can correct them. A refused
        file is tried again at each check: its labels may need versions that still load.
        """
        content = self._config

        def check(path: str) -> Iterator[str]:
            nonlocal content
            try:
                config = read_model_config(path)
                if config not in (content, self._config):
                    self._replace(config)
                    self._lifecycle.log(f"The changed file '{path}' is applied.")
                content = config
            except UserError as error:
                yield f"The served models stay. {error}"
            except ServingError as error:
                reason = f"The file '{path}' cannot be served: {error.message}"
                yield f"The served models stay. {reason}"

        self._poll(check, lambda: [path], interval_s)

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
        with self._lock:
            model = self._lifecycle.models.get(spec.name, Model(spec.name))
            numbers = sorted(model.versions, reverse=True)
            if spec.WhichOneof("version_choice") == "version":
                numbers = [n for n in numbers if n == spec.version.value]
                target = f"version {spec.version.value}"
            else:
                target = "any versions"
            if not numbers:
                raise errors.not_found(f"Could not find {target} of model {spec.name}")
            for number in numbers:
                _describe(model.versions[number], response.model_version_status.add())
        return response

    def available(self) -> dict[str, tuple[int, ...]]:
        """Returns {model of the config: its available versions, ascending}."""
        with self._lock:
            models = self._lifecycle.models
            return {name: tuple(models[name].available) for name in self._models}

    def close(self, drain_s: float = 30.0) -> bool:
        """Stops the pollers, waits for users, closes all; returns whether it could.

        Versions in use for longer than `drain_s` stay open.
        """
        with self._changed:
            self._is_closed, self._models = True, {}
            self._changed.notify_all()
        for poller in self._pollers:
            poller.stop()
        return self._lifecycle.close(drain_s)

    def _poll(
        self, check: Callable[[Any], Iterable[str]], items: Callable, interval_s: float
    ) -> None:
        self._pollers.append(Poller(check, items, interval_s, self._lifecycle.log))

    def _replace(self, config: ModelServerConfig) -> list[Model]:
        """Sets a config, which must not change later; returns the new models."""
        with self._changed:
            if self._is_closed:
                raise errors.unavailable("The server has stopped")
            check_models(config, self._config)
            labels = self._check_labels(config)
            previous = self._models
            models = {model.name: model for model in config.model_config_list.config}
            self._config, self._models, self._labels = config, models, labels
            for name in models:
                self._lifecycle.models.setdefault(name, Model(name))
            for name in previous.keys() - models.keys():
                self._lifecycle.set_desired(name, {})
            self._changed.notify_all()
        for name in previous.keys() & models.keys():
            if previous[name].base_path != models[name].base_path:
                self._lifecycle.log(
                    f"Model {name} has another base path. A version that serves is not "
                    "loaded again from there, as in TF Serving: give it another number."
                )
        self._pollers[0].wake()
        return [self._lifecycle.models[n] for n in models if n not in previous]

    def _check_labels(self, config: ModelServerConfig) -> dict[tuple[str, str], int]:
        labels = {}
        for model in config.model_config_list.config:
            states = self._lifecycle.models.get(model.name)
            for label, number in sorted(model.version_labels.items()):
                key = model.name, label
                is_free = (
                    self._allow_unavailable_labels
                    and self._labels.get(key, number) == number
                )
                if not (is_free or (states and number in states.available)):
                    raise errors.failed_precondition(
                        f"Request to assign label to version {number} of model "
                        f"{model.name}, which is not currently available for inference"
                    )
                labels[key] = number
        return labels

    def _wait_for(
        self,
        models: list[Model],
        config: ModelServerConfig,
        deadline: Deadline,
        noun: str,
    ) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._is_closed
                    or self._config is not config
                    or deadline.is_over
                    or all(model.is_settled for model in models)
                ),
                deadline.remaining_s(),
            )
            failed = [model for model in models if not model.serves]
            if not failed:
                return
            listed = ", ".join(model.name for model in failed)
            if self._is_closed:
                raise errors.unavailable("The server has stopped")
            if self._config is not config:
                text = f"A later config came while waiting for: {listed}"
                raise ServingError(StatusCode.ABORTED, text)
            if not all(model.is_settled for model in failed):
                raise errors.deadline_exceeded(
                    f"The time was over while waiting for: {listed}"
                )
            reasons = "".join(f"{{{model.failure()}}}, " for model in failed)
        text = f"{len(failed)} {noun}(s) did not become available: {{{reasons}}}"
        raise ServingError(StatusCode.UNKNOWN, text)

    def _acquire(self, spec: ModelSpec) -> Version:
        name, choice = spec.name, spec.WhichOneof("version_choice")
        if not name:
            raise errors.invalid_argument("ModelSpec has no name specified.")
        number = spec.version.value if choice == "version" else None
        with self._lock:
            if choice == "version_label":
                number = self._labels.get((name, spec.version_label))
                if number is None:
                    raise errors.invalid_argument(
                        f"Unrecognized servable version label: {spec.version_label}"
                    )
            model = self._lifecycle.models.get(name)
            available = model.available if model else {}
            latest = max(available, default=None)
            version = available.get(latest if number is None else number)
            if version is not None:
                version.users += 1
                return version
        target = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise errors.not_found(f"Servable not found for request: {target}")

    def _check_base_path(self, model: ModelConfig) -> list[str]:
        """Sets the desired versions of a model; returns warnings."""
        locations, warnings = find_versions(model)
        with self._changed:
            # The config may have changed meanwhile.
            if locations is not None and self._models.get(model.name) is model:
                self._lifecycle.set_desired(model.name, locations)
            self._changed.notify_all()  # a waiting reload may have been cancelled
        return warnings


def _describe(version: Version, status: ModelVersionStatus) -> None:
    status.version, status.state = version.number, version.state
    status.status.SetInParent()  # OK, which some clients require
    if version.state == END and version.error:
        status.status.error_code = version.error.code.value[0]
        status.status.error_message = version.error.truncated_message
