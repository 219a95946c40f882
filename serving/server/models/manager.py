"""The models of a config: follows their base paths, gives requests their version."""

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
from serving.server.models.versions import Watcher

_POLLER_S = 5.0  # how long `close` waits for a look under a base path to end


class ModelHandle(NamedTuple):
    """A version that is not closed as long as it is held."""

    name: str
    version: int
    servable: Any


class _Use:
    """Takes a version and gives it back; a generator would cost twice as much."""

    __slots__ = ("_manager", "_spec", "_version")

    def __init__(self, manager: "Manager", spec: ModelSpec):
        self._manager, self._spec = manager, spec

    def __enter__(self) -> ModelHandle:
        version = self._version = self._manager._take(self._spec)
        return ModelHandle(version.name, version.number, version.servable)

    def __exit__(self, *_) -> None:
        self._manager._holder.give_back(self._version)


class Manager:
    """Serves the models of a config, and what appears under their base paths."""

    def __init__(
        self,
        load: Load,
        *,
        poll_s: float = 1.0,
        load_retries: int = 5,
        retry_s: float = 60.0,
        early_labels: bool = False,
        say: Callable[[str], object] = print,
    ):
        """Makes a manager of no models yet.

        Args:
            load: Returns what serves a version, warmed up; it has a `close()`. Raises
                ServingError, or any other exception, where the version does not load.
            poll_s: Seconds between two looks under the base paths.
            load_retries: How often a version that did not load is tried again.
            retry_s: Seconds between two tries.
            early_labels: Whether a label that is not in use may be given to a version
                that is not available yet, as TF Serving's flag
                --allow_version_labels_for_unavailable_models allows.
            say: Takes lines for the log; is called by several threads.

        Source of the defaults: TensorFlow Serving 2.16.1, main.cc.
        """
        self._holder = ModelLoader(
            load, load_retries=load_retries, retry_s=retry_s, say=say
        )
        self._changed, self._lock = self._holder.changed, self._holder.lock
        self._poll_s = poll_s
        self._early_labels = early_labels
        self._config = ModelServerConfig()
        self._models: dict[str, ModelConfig] = {}
        self._labels: dict[tuple[str, str], int] = {}
        self._is_closed = False
        self._look_now = threading.Event()
        self._watcher = Watcher(self._holder.tell)
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def apply(
        self, config: ModelServerConfig, deadline: Deadline | None = None
    ) -> None:
        """Replaces the whole list of models, and waits for those that are new.

        A model is waited for until one of its versions serves or none can be loaded;
        one that has no version yet, until it has. A refused config changes nothing; a
        model that does not load stays in the list. A model that was in the list before
        follows its new base path or policy without being waited for.

        Raises:
            ServingError: The config is refused; a new model did not load; the deadline
                or the manager ended, or a later config came, while it was waited for.
        """
        # A copy, as the caller may go on with its own.
        mine = ModelServerConfig.FromString(config.SerializeToString())
        with self._changed:
            before, is_first = self._models, not self._config.WhichOneof("config")
            fresh = self._replace(mine)
            moved = [
                name
                for name, model in self._models.items()
                if name in before and before[name].base_path != model.base_path
            ]
        for name in moved:
            self._holder.tell(
                f"Model {name} has another base path. A version that serves is not "
                "loaded again from there, as in TF Serving: give it another number."
            )
        self._look_now.set()
        self._wait_for(fresh, mine, deadline or Deadline(), is_first)

    def use(self, spec: ModelSpec) -> AbstractContextManager[ModelHandle]:
        """Holds the version that a request asks for, which is not closed meanwhile.

        Raises:
            ServingError: On entering, as there is no such model, version or label, or
                no name at all.
        """
        return _Use(self, spec)

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """Returns the state of one version, or of all there were, the highest first.

        A label is not looked at, as TF Serving does not.

        Raises:
            ServingError: There is no such version, or none of that model.
        """
        response = GetModelStatusResponse()
        with self._changed:
            lineup = self._holder.lineups.get(spec.name)
            versions = lineup.versions if lineup else {}
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
        """Returns {model of the config: its versions that serve, ascending}."""
        with self._changed:
            return {
                name: tuple(v.number for v in self._holder.lineups[name].available)
                for name in self._models
            }

    def close(self, drain_s: float = 30.0) -> bool:
        """Stops looking, waits for those who use versions, and closes all.

        What is used for longer than `drain_s` is not closed.

        Returns:
            Whether all is closed.
        """
        with self._changed:
            self._is_closed, self._models = True, {}
            self._changed.notify_all()
        self._look_now.set()
        all_closed = self._holder.close(drain_s)
        if self._poller.is_alive():
            self._poller.join(_POLLER_S)
        return all_closed

    def _replace(self, config: ModelServerConfig) -> list[str]:
        """Takes a config; returns the models that are new. The lock is held."""
        if self._is_closed:
            raise ServingError(StatusCode.UNAVAILABLE, "The server has stopped")
        check_models(config, self._config)
        labels = self._check_labels(config)
        models = {model.name: model for model in config.model_config_list.config}
        fresh = [name for name in models if name not in self._models]
        gone = [name for name in self._models if name not in models]
        self._config, self._models, self._labels = config, models, labels
        for name in models:
            self._holder.lineups.setdefault(name, VersionStates(name))
        for name in gone:
            self._holder.want(name, {})
        self._changed.notify_all()
        if self._poller.ident is None:
            self._poller.start()
        return fresh

    def _take(self, spec: ModelSpec) -> Version:
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
            version = self._holder.take(name, number)
        if version is None:
            asked = (
                f"Latest({name})" if number is None else f"Specific({name}, {number})"
            )
            raise not_found(f"Servable not found for request: {asked}")
        return version

    def _check_labels(self, config: ModelServerConfig) -> dict[tuple[str, str], int]:
        labels = {}
        for model in config.model_config_list.config:
            lineup = self._holder.lineups.get(model.name)
            for label, number in sorted(model.version_labels.items()):
                version = lineup.versions.get(number) if lineup else None
                key = model.name, label
                is_free = self._early_labels and self._labels.get(key, number) == number
                if not is_free and (version is None or version.state != AVAILABLE):
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model "
                        f"{model.name}, which is not currently available for inference"
                    )
                labels[key] = number
        return labels

    def _wait_for(
        self, names: list[str], mine: ModelServerConfig, deadline: Deadline, first: bool
    ) -> None:
        with self._changed:
            lineups = [self._holder.lineups[name] for name in names]
            self._changed.wait_for(
                lambda: (
                    self._is_closed
                    or self._config is not mine
                    or deadline.is_over
                    or all(lineup.is_settled for lineup in lineups)
                ),
                deadline.remaining_s(),
            )
            bad = [lineup for lineup in lineups if not lineup.serves]
            if not bad:
                return
            listed = ", ".join(lineup.name for lineup in bad)
            if self._is_closed:
                raise ServingError(StatusCode.UNAVAILABLE, "The server has stopped")
            if self._config is not mine:
                text = f"A later config came while waiting for: {listed}"
                raise ServingError(StatusCode.ABORTED, text)
            if not all(lineup.is_settled for lineup in bad):
                text = f"The time was over while waiting for: {listed}"
                raise ServingError(StatusCode.DEADLINE_EXCEEDED, text)
            raise _unavailable(bad, "servable" if first else "model")

    def _poll(self) -> None:
        while not self._is_closed:
            self._look_now.clear()
            for model in list(self._models.values()):
                try:
                    self._look(model)
                except Exception:  # a poller that ends would end it for all models
                    self._holder.tell(traceback.format_exc())
            self._look_now.wait(self._poll_s)

    def _look(self, model: ModelConfig) -> None:
        found = self._watcher.look(model)
        with self._changed:
            # The config may have changed since.
            if found is not None and self._models.get(model.name) is model:
                self._holder.want(model.name, found)


def _unavailable(lineups: list[VersionStates], noun: str) -> ServingError:
    """Returns that models did not become available, in TF Serving's words."""
    reasons = "".join(f"{{{lineup.failure()}}}, " for lineup in lineups)
    text = f"{len(lineups)} {noun}(s) did not become available: {{{reasons}}}"
    return ServingError(StatusCode.UNKNOWN, text)


def _describe(version: Version, status: ModelVersionStatus) -> None:
    status.version, status.state = version.number, version.state
    status.status.SetInParent()  # OK, which some clients want to read
    if version.state == END and version.error:
        status.status.error_code = version.error.code.value[0]
        status.status.error_message = version.error.sent
