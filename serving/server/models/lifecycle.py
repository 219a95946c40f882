"""Life cycle of model versions: the state machine, and the threads that drive it.

    START -> LOADING -> AVAILABLE -> UNLOADING -> END

A version is LOADING between retries too. One that is not desired any more goes from
START, or from LOADING between retries, to END; from a running load to UNLOADING. When
all retries have failed, LOADING goes to END. From END a version starts anew if it is
desired again, or at another location.

Source: TensorFlow Serving 2.16.1, for the rules: AvailabilityPreservingPolicy (order of
loading and unloading), AspiredVersionsManager (desired versions), LoaderHarness
(retries), ServableStateMonitor (reported states).
"""

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from serving.server.errors import ServingError, from_load_error, internal
from serving.server.models.base_paths import Location

START, LOADING = ModelVersionStatus.START, ModelVersionStatus.LOADING
AVAILABLE = ModelVersionStatus.AVAILABLE
UNLOADING, END = ModelVersionStatus.UNLOADING, ModelVersionStatus.END

# load(model name, version number, folder) -> servable with close()
Load = Callable[[str, int, Location], Any]
Log = Callable[[str], object]

_LAST_WAIT_S = 5.0  # for running loads and closes, after the drain time


@dataclass(eq=False)
class Version:
    """One version of a model, with the transitions of its state.

    Attributes:
        error: Error of the last load; reported once the state is END.
        servable: Result of `load` until it is closed.
        users: Number of requests that use it.
        desired: Whether it should be served.
        in_loader: Whether `load` runs for it.
        failures: Number of failed loads.
        retry_at_s: Earliest time of the next load.
    """

    name: str
    number: int
    location: Location
    state: int = START
    error: ServingError | None = None
    servable: Any = None
    users: int = 0
    desired: bool = True
    in_loader: bool = False
    failures: int = 0
    retry_at_s: float = 0.0

    def __str__(self) -> str:
        return f"Version {self.number} of model {self.name}"

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its first load or a retry."""
        return self.state in (START, LOADING) and not self.in_loader

    def withdraw(self) -> None:
        """Marks it as not desired, which ends it if it waits to be loaded."""
        self.desired = False
        if self.is_waiting:
            self.state = END

    def finish_load(self, servable: Any) -> None:
        """Makes it available, or cancels it if it is not desired any more."""
        self.in_loader, self.servable, self.error = False, servable, None
        self.state = AVAILABLE if self.desired else UNLOADING
        if not self.desired:
            text = "Loading of servable cancelled"
            self.error = ServingError(StatusCode.CANCELLED, text)

    def fail_load(self, error: ServingError, retries: int, retry_at_s: float) -> None:
        """Stores the error; the version ends after more than `retries` failures."""
        self.in_loader, self.error, self.retry_at_s = False, error, retry_at_s
        self.failures += 1
        if not self.desired or self.failures > retries:
            self.state = END


@dataclass(eq=False)
class Model:
    """Versions of one model, with the policy of loading and unloading.

    Attributes:
        versions: {number: version}; ended ones stay, as in GetModelStatus.
        available: {number: version} of the state AVAILABLE.
        has_loader: Whether a thread loads the waiting versions.
    """

    name: str
    versions: dict[int, Version] = field(default_factory=dict)
    available: dict[int, Version] = field(default_factory=dict)
    has_loader: bool = False

    def set_desired(self, locations: Mapping[int, Location]) -> None:
        """Sets which versions should be served.

        An available version stays if its number is desired, even at a new location, as
        in TF Serving. A version that is unloading, or loading from another location, is
        loaded again once it has ended and this method is called again.
        """
        for number in self.versions.keys() - locations.keys():
            self.versions[number].withdraw()
        for number, location in locations.items():
            version = self.versions.get(number)
            if version and version.state in (AVAILABLE, UNLOADING):
                version.desired = version.state == AVAILABLE
            elif version and version.in_loader:
                version.desired = version.location == location
            elif not (version and version.desired and version.location == location):
                self.versions[number] = Version(self.name, number, location)

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
        ends = [version.state == END for version in self.desired]
        return self.serves or (bool(ends) and all(ends))

    def next_to_load(self, now_s: float) -> Version | None:
        """Returns the highest version that is due to be loaded, or the next one due."""
        return min(
            (version for version in self.versions.values() if version.is_waiting),
            key=lambda version: (max(version.retry_at_s, now_s), -version.number),
            default=None,
        )

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
        text = f"{{name: {self.name} version: {last.number}}}"
        if last.error:
            text += f" due to error: {last.error.code.name}: {last.error.message}"
        return text


class Lifecycle:
    """Versions of all models, with the threads that load and unload them.

    Each model has a thread while versions wait to be loaded. Each version to unload has
    a thread that waits for its last user. One lock guards the state; it is never held
    while a version is loaded or closed, or a line is logged.

    Attributes:
        lock: Lock of the state; faster than `changed` where nothing is awaited.
        changed: Condition on the same lock, notified of each change.
        models: {name: its versions}, removed models included.
    """

    def __init__(self, load: Load, load_retries: int, retry_s: float, log: Log):
        self._load, self._write_line = load, log
        self._load_retries, self._retry_s = load_retries, retry_s
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.models: dict[str, Model] = {}
        self._drain_is_over = False

    def log(self, text: str) -> None:
        """Writes a text as one line, if the log's reader has not closed the pipe."""
        with suppress(OSError, ValueError):
            self._write_line(" ".join(line.strip() for line in text.splitlines()))

    def set_desired(self, name: str, locations: Mapping[int, Location]) -> None:
        """Sets which versions of a model should be served; the lock must be held."""
        self.models[name].set_desired(locations)
        self._advance(self.models[name])

    def release(self, version: Version) -> None:
        """Ends one use of a version, which was counted in its `users`."""
        with self.lock:
            version.users -= 1
            if not version.users and version.state == UNLOADING:
                self.changed.notify_all()

    def close(self, drain_s: float) -> bool:
        """Waits for users and loads, and closes all versions; returns whether it did.

        Versions in use for longer than `drain_s` stay open: closing them would crash
        the process.
        """
        with self.changed:
            for name in self.models:
                self.set_desired(name, {})
            if not self.changed.wait_for(lambda: not self._busy(), drain_s):
                self._drain_is_over = True
                self.changed.notify_all()
                self.changed.wait_for(lambda: not self._busy(), _LAST_WAIT_S)
            busy = self._busy()
            is_closed = all(version.servable is None for version in self._versions())
        for name in sorted({version.name for version in busy}):
            self.log(f"Model {name} was still busy when the server stopped.")
        return is_closed and not busy

    def _versions(self) -> list[Version]:
        return [v for model in self.models.values() for v in model.versions.values()]

    def _busy(self) -> list[Version]:
        return [version for version in self._versions() if version.state != END]

    def _advance(self, model: Model) -> None:
        """Starts the due loads and unloads; the lock must be held."""
        if not model.has_loader and model.next_to_load(0.0):
            model.has_loader = self._start(self._load_all, model)
        for version in model.update_available():
            if self._start(self._unload, version):
                version.state = UNLOADING
                del model.available[version.number]
        self.changed.notify_all()

    def _start(self, work: Callable, target: Model | Version) -> bool:
        try:
            threading.Thread(target=work, args=(target,), daemon=True).start()
        except RuntimeError:  # too many threads; the next `_advance` tries again
            return False
        return True

    def _load_all(self, model: Model) -> None:
        """Loads the waiting versions of a model, one after the other."""
        while version := self._wait_to_load(model):
            self._load_version(model, version)

    def _wait_to_load(self, model: Model) -> Version | None:
        with self.changed:
            while version := model.next_to_load(now_s := time.monotonic()):
                if version.retry_at_s <= now_s:
                    version.state, version.in_loader = LOADING, True
                    return version
                self.changed.wait(version.retry_at_s - now_s)
            model.has_loader = False
            return None

    def _load_version(self, model: Model, version: Version) -> None:
        previous, error, servable = version.error, None, None
        try:
            servable = self._load(version.name, version.number, version.location)
        except Exception as exception:  # the old version stays in any case
            error = from_load_error(exception)
            if error is None:
                self.log(traceback.format_exc())
                error = internal(f"{type(exception).__name__}: {exception}")
        with self.changed:
            if error is None:
                version.finish_load(servable)
            else:
                retry_at_s = time.monotonic() + self._retry_s
                version.fail_load(error, self._load_retries, retry_at_s)
            self._advance(model)
            state = version.state
        if error is not None:
            is_new = previous is None or previous.message != error.message
            self._log_failure(version, is_new, state == END)
        elif state == UNLOADING:
            self._unload(version)
        else:
            self.log(f"{version} is available.")

    def _log_failure(self, version: Version, is_new: bool, is_final: bool) -> None:
        retries = f" It is tried again every {self._retry_s:g} s, at most "
        retries = "" if is_final else f"{retries}{self._load_retries} times."
        if is_new:
            self.log(f"{version} does not load: {version.error.message}{retries}")
        if is_final and version.failures > 1:
            times = f"{version.failures} times"
            self.log(f"{version} did not load {times}, and is given up.")

    def _unload(self, version: Version) -> None:
        """Waits for the last user of a version, and closes it."""
        with self.changed:
            self.changed.wait_for(lambda: not version.users or self._drain_is_over)
            users = version.users
        if users:
            self.log(f"{version} is left: {users} requests still use it.")
        else:
            try:
                version.servable.close()
                self.log(f"{version} is unloaded.")
            except Exception:  # the version counts as unloaded all the same
                self.log(f"{version} did not close well. {traceback.format_exc()}")
            version.servable = None
        with self.changed:
            version.state = END
            self.changed.notify_all()
