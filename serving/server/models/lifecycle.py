"""Life cycle of model versions: the state machine, and the threads that drive it.

    START -> LOADING -> AVAILABLE -> UNLOADING -> END

A version is LOADING between retries too. One that is not desired any more goes from
START, or from LOADING between retries, to END; from a running load to UNLOADING. When
all retries have failed, LOADING goes to END. From END a version starts anew if it is
desired again, or at another path.

Source: TensorFlow Serving 2.16.1, for the rules: AvailabilityPreservingPolicy (order of
loading and unloading), AspiredVersionsManager (desired versions), LoaderHarness
(retries), ServableStateMonitor (reported states).
"""

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread
from typing import Any

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from serving.server.errors import ServingError, from_load_error, internal

START, LOADING = ModelVersionStatus.START, ModelVersionStatus.LOADING
AVAILABLE = ModelVersionStatus.AVAILABLE
UNLOADING, END = ModelVersionStatus.UNLOADING, ModelVersionStatus.END

# load(model name, version number, path) -> servable with close(); may raise anything
Load = Callable[[str, int, str], Any]
Log = Callable[[str], object]

_LAST_WAIT_S = 5.0  # for running loads and closes, after the drain time


@dataclass(eq=False)
class Version:
    """One version of a model; requests use its name, version and servable."""

    name: str
    version: int
    path: str
    state: int = START
    error: ServingError | None = None  # of the last load; reported at END
    servable: Any = None
    users: int = 0  # running requests
    desired: bool = True
    failures: int = 0
    due_s: float | None = 0.0  # time of the next load; None: not waiting for one

    def __str__(self) -> str:
        return f"Version {self.version} of model {self.name}"

    def finish_load(self, servable: Any) -> None:
        """Makes it available, or cancels it if it is not desired any more."""
        self.servable, self.state, self.error = servable, AVAILABLE, None
        if not self.desired:
            text = "Loading of servable cancelled"
            self.state, self.error = UNLOADING, ServingError(StatusCode.CANCELLED, text)

    def fail_load(self, error: ServingError, retries: int, retry_at_s: float) -> None:
        """Stores the error; the version ends after more than `retries` failures."""
        self.error, self.due_s = error, retry_at_s
        self.failures += 1
        if not self.desired or self.failures > retries:
            self.state, self.due_s = END, None


@dataclass(eq=False)
class Model:
    """Versions of one model, with the policy of loading and unloading."""

    name: str
    # Ended ones stay, as in GetModelStatus.
    versions: dict[int, Version] = field(default_factory=dict)
    available: dict[int, Version] = field(default_factory=dict)
    has_loader: bool = False

    def set_desired(self, paths: Mapping[int, str]) -> None:
        """Sets which versions should be served.

        An available version stays if its number is desired, even at a new path, as in
        TF Serving. A version that is unloading, or loading from another path, is loaded
        again once it has ended and this method is called again.
        """
        for number in self.versions.keys() - paths.keys():
            version = self.versions[number]
            version.desired = False
            if version.due_s is not None:
                version.state, version.due_s = END, None
        for number, path in paths.items():
            version = self.versions.get(number)
            if version and version.state in (AVAILABLE, UNLOADING):
                version.desired = version.state == AVAILABLE
            elif version and version.state == LOADING and version.due_s is None:
                version.desired = version.path == path
            elif not (version and version.desired and version.path == path):
                self.versions[number] = Version(self.name, number, path)

    @property
    def desired(self) -> list[Version]:
        """Desired versions, the latest last."""
        return [v for _, v in sorted(self.versions.items()) if v.desired]

    @property
    def serves(self) -> bool:
        """Whether a desired version is available."""
        return any(version.desired for version in self.available.values())

    @property
    def is_settled(self) -> bool:
        """Whether a desired version is available, or all have failed for good."""
        states = {version.state for version in self.desired}
        return self.serves or states == {END}

    def next_to_load(self, now_s: float) -> Version | None:
        """Returns the highest version that is due to be loaded, or the next one due."""
        waiting = [v for v in self.versions.values() if v.due_s is not None]
        waiting.sort(key=lambda v: (max(v.due_s, now_s), -v.version))
        return waiting[0] if waiting else None

    def update_available(self) -> list[Version]:
        """Updates `available`; returns those to unload now.

        While no desired version is available yet, the latest undesired one stays.
        """
        versions = sorted(self.versions.items())
        self.available = {n: v for n, v in versions if v.state == AVAILABLE}
        undesired = [v for v in self.available.values() if not v.desired]
        return undesired[:-1] if self.desired and not self.serves else undesired

    def failure(self) -> str:
        """Returns the reason that the model is unavailable, in TF Serving's words."""
        last = self.desired[-1]
        reason = f"{last.error.code.name}: {last.error.message}"
        return f"{{name: {self.name} version: {last.version}}} due to error: {reason}"


class Lifecycle:
    """Versions of all models, with the threads that load and unload them.

    Each model has a thread while versions wait to be loaded. Each version to unload has
    a thread that waits for its last user. One lock guards the state; it is never held
    while a version is loaded or closed, or a line is logged.
    """

    def __init__(self, load: Load, retries: int, retry_s: float, log: Log):
        self._load, self._write_line = load, log
        self._retries, self._retry_s = retries, retry_s
        self.lock = Lock()  # faster than `changed`, where nothing is awaited
        self.changed = Condition(self.lock)
        self.models: dict[str, Model] = {}  # removed ones included

    def log(self, text: str) -> None:
        """Writes a text as one line, if the log's reader has not closed the pipe."""
        with suppress(OSError, ValueError):
            self._write_line(" ".join(line.strip() for line in text.splitlines()))

    def set_desired(self, name: str, paths: Mapping[int, str]) -> None:
        """Sets which versions of a model should be served; the lock must be held."""
        self.models[name].set_desired(paths)
        self._advance(self.models[name])

    def close(self, drain_s: float) -> bool:
        """Waits for users and loads, and closes all versions; returns whether it did.

        Versions in use after `drain_s` stay open: closing would crash the process.
        """
        with self.changed:
            for name in self.models:
                self.set_desired(name, {})
            if not self.changed.wait_for(lambda: not self._open(), drain_s):
                self.changed.wait_for(
                    lambda: all(v.users for v in self._open()), _LAST_WAIT_S
                )
            versions = self._open()
        for version in versions:
            self.log(f"{version} has not ended. Requests that use it: {version.users}.")
        return not versions

    def _open(self) -> list[Version]:
        models = self.models.values()
        return [v for m in models for v in m.versions.values() if v.state != END]

    def _advance(self, model: Model) -> None:
        """Starts the due loads and unloads; the lock must be held."""
        with suppress(RuntimeError):  # too many threads; the next call tries again
            if not model.has_loader and model.next_to_load(0.0):
                Thread(target=self._load_all, args=[model], daemon=True).start()
                model.has_loader = True
            for version in model.update_available():
                Thread(target=self._unload, args=[version], daemon=True).start()
                version.state = UNLOADING
                del model.available[version.version]
        self.changed.notify_all()

    def _load_all(self, model: Model) -> None:
        """Loads the waiting versions of a model, one after the other."""
        while version := self._wait_to_load(model):
            previous, error, servable = version.error, None, None
            try:
                servable = self._load(version.name, version.version, version.path)
            except Exception as exception:  # the old version stays in any case
                error = from_load_error(exception)
                if error is None:
                    self.log(traceback.format_exc())
                    error = internal(f"{type(exception).__name__}: {exception}")
            with self.changed:
                if error:
                    retry_at_s = time.monotonic() + self._retry_s
                    version.fail_load(error, self._retries, retry_at_s)
                else:
                    version.finish_load(servable)
                self._advance(model)
                state = version.state
            if state == AVAILABLE:
                self.log(f"{version} is available.")
            elif state == UNLOADING:
                self._unload(version)
            elif state == END:
                self.log(f"{version} does not load, and is given up: {error.message}")
            elif previous is None or previous.message != error.message:
                retries = f"at most {self._retries} retries, every {self._retry_s:g} s"
                self.log(f"{version} does not load, {retries}: {error.message}")

    def _wait_to_load(self, model: Model) -> Version | None:
        with self.changed:
            while version := model.next_to_load(now_s := time.monotonic()):
                if version.due_s <= now_s:
                    version.state, version.due_s = LOADING, None
                    return version
                self.changed.wait(version.due_s - now_s)
            model.has_loader = False
            return None

    def _unload(self, version: Version) -> None:
        """Waits for the last user of a version, and closes it."""
        with self.changed:
            self.changed.wait_for(lambda: not version.users)
        try:
            version.servable.close()
            self.log(f"{version} is unloaded.")
        except Exception:  # the version counts as unloaded all the same
            self.log(f"{version} did not close well. {traceback.format_exc()}")
        with self.changed:
            version.servable, version.state = None, END
            self.changed.notify_all()
