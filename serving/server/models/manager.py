"""Manager of the served models: follows a config, base paths and version labels."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
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
from serving.server.models.lifecycle import (
    END,
    UNLOADING,
    Lifecycle,
    Load,
    Log,
    Model,
    Version,
)
from serving.server.models.polling import Poller


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
        """Source of the defaults: TensorFlow Serving 2.16.1, main.cc."""
        self._lifecycle = Lifecycle(load, load_retries, retry_s, log)
        self._changed = self._lifecycle.changed
        self._allow_unavailable_labels = allow_unavailable_labels
        self._config = self._file_config = ModelServerConfig()
        self._models: dict[str, ModelConfig] = {}
        self._is_closed = False
        self._pollers = [Poller(self._check_base_paths, poll_s, self._lifecycle.log)]

    def apply(
        self, config: ModelServerConfig, deadline: Deadline | None = None
    ) -> None:
        """Replaces the list of models, and waits for the new ones.

        It waits for a new model until one of its versions is available or all failed. A
        model that fails stays in the list. A refused config changes nothing.
        """
        noun = "model" if self._config.WhichOneof("config") else "servable"
        config = ModelServerConfig.FromString(config.SerializeToString())
        models, deadline = self._replace(config), deadline or Deadline()
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._config is not config
                    or deadline.is_over
                    or all(model.is_settled for model in models)
                ),
                deadline.remaining_s(),
            )
            models = [model for model in models if not model.serves]
            names = ", ".join(model.name for model in models)
            if not models:
                return
            if self._is_closed:
                raise errors.unavailable("The server has stopped")
            if self._config is not config:
                text = f"A later config came while waiting for: {names}"
                raise ServingError(StatusCode.ABORTED, text)
            if not all(model.is_settled for model in models):
                text = f"The time was over while waiting for: {names}"
                raise errors.deadline_exceeded(text)
            reasons = "".join(f"{{{model.failure()}}}, " for model in models)
        text = f"{len(models)} {noun}(s) did not become available: {{{reasons}}}"
        raise ServingError(StatusCode.UNKNOWN, text)

    def watch_config_file(self, path: str, interval_s: float) -> None:
        """Applies the file of the current config again when its models change.

        New models are not awaited, so that a later change can correct them. A refused
        file is tried again at each check: its labels may need versions that still load.
        """
        self._file_config = self._config
        check = partial(self._check_config_file, path)
        self._pollers.append(Poller(check, interval_s, self._lifecycle.log))

    @contextmanager
    def use(self, spec: ModelSpec) -> Iterator[Version]:
        """Keeps the requested version open."""
        with self._lifecycle.lock:
            version = self._find(spec)
            version.users += 1
        try:
            yield version
        finally:
            with self._lifecycle.lock:
                version.users -= 1
                if not version.users and version.state == UNLOADING:
                    self._changed.notify_all()

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """Returns the state of one version, or of all; labels are ignored."""
        response = GetModelStatusResponse()
        with self._changed:
            versions, target = self._model(spec.name).versions, "any versions"
            if spec.WhichOneof("version_choice") == "version":
                number, target = spec.version.value, f"version {spec.version.value}"
                versions = {n: v for n, v in versions.items() if n == number}
            if not versions:
                raise errors.not_found(f"Could not find {target} of model {spec.name}")
            for number, version in sorted(versions.items(), reverse=True):
                status = response.model_version_status.add(version=number)
                status.state = version.state
                status.status.SetInParent()  # OK, which some clients require
                if version.state == END and version.error:
                    status.status.error_code = version.error.code.value[0]
                    status.status.error_message = version.error.truncated_message
        return response

    def available(self) -> dict[str, tuple[int, ...]]:
        """Returns {model of the config: its available versions, ascending}."""
        with self._changed:
            return {name: tuple(self._model(name).available) for name in self._models}

    def close(self, drain_s: float = 30.0) -> bool:
        """Stops the pollers, waits for users, closes all; returns whether it could."""
        with self._changed:
            self._is_closed, self._config, self._models = True, ModelServerConfig(), {}
            self._changed.notify_all()
        for poller in self._pollers:
            poller.stop()
        return self._lifecycle.close(drain_s)

    def _model(self, name: str) -> Model:
        return self._lifecycle.models.get(name) or Model(name)

    def _replace(self, config: ModelServerConfig) -> list[Model]:
        """Sets a config, which must not change later; returns the new models."""
        models = {model.name: model for model in config.model_config_list.config}
        with self._changed:
            if self._is_closed:
                raise errors.unavailable("The server has stopped")
            check_models(config, self._config)
            self._check_labels(models)
            previous, self._config, self._models = self._models, config, models
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
        self._pollers[0].wakes.set()
        return [self._lifecycle.models[n] for n in models if n not in previous]

    def _check_labels(self, models: dict[str, ModelConfig]) -> None:
        """Raises ServingError for a label of a version that is not available."""
        for name, model in models.items():
            labels = self._models.get(name, model).version_labels
            for label, number in sorted(model.version_labels.items()):
                is_moved = labels.get(label, number) != number
                is_free = self._allow_unavailable_labels and not is_moved
                if number not in self._model(name).available and not is_free:
                    raise errors.failed_precondition(
                        f"Request to assign label to version {number} of model {name}, "
                        "which is not currently available for inference"
                    )

    def _find(self, spec: ModelSpec) -> Version:
        """Returns the available version that a request names."""
        name, label = spec.name, spec.version_label
        if not name:
            raise errors.invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        labels = self._models.get(name, ModelConfig()).version_labels
        if choice == "version_label" and label not in labels:
            text = f"Unrecognized servable version label: {label}"
            raise errors.invalid_argument(text)
        available = self._model(name).available
        number, target = max(available, default=None), f"Latest({name})"
        if choice:
            number = spec.version.value if choice == "version" else labels[label]
            target = f"Specific({name}, {number})"
        if number not in available:
            raise errors.not_found(f"Servable not found for request: {target}")
        return available[number]

    def _check_config_file(self, path: str) -> Iterator[str]:
        """Applies a changed config file; yields the problem with it."""
        try:
            config = read_model_config(path)
            if config not in (self._file_config, self._config):
                self._replace(config)
                self._lifecycle.log(f"The changed file '{path}' is applied.")
            self._file_config = config
        except (UserError, ServingError) as error:
            yield f"The served models stay, '{path}' is not applied. {error}"

    def _check_base_paths(self) -> Iterator[str]:
        """Sets the desired versions of the models; yields warnings."""
        for name, model in self._models.copy().items():
            paths, warnings = find_versions(model)
            with self._changed:
                # The config may have changed meanwhile.
                if paths is not None and self._models.get(name) is model:
                    self._lifecycle.set_desired(name, paths)
                self._changed.notify_all()  # a waiting reload may have been cancelled
            yield from warnings
