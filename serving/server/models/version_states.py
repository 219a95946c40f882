"""State machine of a model's versions: loading, available, unloading, ended.

It has no threads, lock or clock: `Manager` holds the lock and passes the time.

Source: TensorFlow Serving 2.16.1, for the rules: AvailabilityPreservingPolicy (order of
loading and unloading), AspiredVersionsManager (desired versions), LoaderHarness
(retries), ServableStateMonitor (reported states).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from serving.server.errors import ServingError
from serving.server.models.versions import Location

START, LOADING = ModelVersionStatus.START, ModelVersionStatus.LOADING
AVAILABLE = ModelVersionStatus.AVAILABLE
UNLOADING, END = ModelVersionStatus.UNLOADING, ModelVersionStatus.END


@dataclass(eq=False)
class Version:
    """One version of a model.

    Attributes:
        name: Model name.
        number: Version number.
        location: Folder of the version.
        state: State in GetModelStatus.
        error: Error of the last load; reported once the state is END.
        servable: Loaded version while AVAILABLE or UNLOADING.
        users: Requests that use it.
        desired: Whether it should be served.
        in_loader: Whether `load` runs for it.
        failures: Failed loads.
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

    @property
    def is_idle(self) -> bool:
        """Whether it is unloaded, has not ended, and no thread is loading it."""
        return self.state in (START, LOADING) and not self.in_loader

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its first load or a retry."""
        return self.desired and self.is_idle

    def is_replaced_by(self, location: Location) -> bool:
        """Whether a version at `location` replaces this one."""
        if self.state == END:
            return not self.desired or self.location != location
        return self.is_idle and self.location != location

    def mark_loading(self) -> None:
        """Sets the state while `load` runs."""
        self.state, self.in_loader = LOADING, True

    def mark_loaded(self, servable: Any) -> bool:
        """Stores the servable; returns False if the version is no longer desired."""
        self.in_loader, self.servable, self.error = False, servable, None
        self.state = AVAILABLE if self.desired else UNLOADING
        if not self.desired:
            cancelled = "Loading of servable cancelled"
            self.error = ServingError(StatusCode.CANCELLED, cancelled)
        return self.desired

    def mark_failed(self, error: ServingError, retries: int, retry_at_s: float) -> None:
        """Stores the error; the version ends after more than `retries` failures."""
        self.in_loader, self.error = False, error
        self.failures += 1
        self.retry_at_s = retry_at_s
        if not self.desired or self.failures > retries:
            self.state = END

    def mark_unloaded(self) -> None:
        """Sets the state of a closed version."""
        self.servable, self.state = None, END

    def __str__(self) -> str:
        return f"Version {self.number} of model {self.name}"


class VersionStates:
    """Versions of one model, ended ones included, as GetModelStatus lists them.

    Attributes:
        versions: {number: version}.
        has_loader: Whether a thread loads the waiting versions.
    """

    def __init__(self, name: str):
        self.name = name
        self.versions: dict[int, Version] = {}
        self.has_loader = False

    def set_desired_versions(self, locations: Mapping[int, Location]) -> None:
        """Sets which versions should be served.

        An available version stays if its number is desired, even at a new location, as
        in TF Serving. An ended version is loaded again if it was not desired meanwhile
        or has a new location. A version that is unloading, or loading from another
        location, is loaded again once it has ended and this method is called again.
        """
        for number, location in locations.items():
            version = self.versions.get(number)
            if version is None or version.is_replaced_by(location):
                self.versions[number] = Version(self.name, number, location)
            elif version.state != UNLOADING:
                serves = version.state == AVAILABLE
                version.desired = serves or version.location == location
        for number, version in self.versions.items():
            if number not in locations:
                version.desired = False
                if version.is_idle:
                    version.state = END

    @property
    def available(self) -> list[Version]:
        """Available versions, the latest last."""
        ready = (v for v in self.versions.values() if v.state == AVAILABLE)
        return sorted(ready, key=lambda version: version.number)

    def to_unload(self) -> list[Version]:
        """Returns the available versions to unload now.

        While no desired version is available yet, the latest undesired one stays.
        """
        desired = any(v.desired for v in self.versions.values())
        serves = any(v.desired for v in self.available)
        undesired = [v for v in self.available if not v.desired]
        return undesired[:-1] if desired and not serves else undesired

    def next_to_load(self, now_s: float) -> Version | None:
        """Returns the highest version that is due to be loaded."""
        waiting = (v for v in self.versions.values() if v.is_waiting)
        due = (v for v in waiting if v.retry_at_s <= now_s)
        return max(due, key=lambda version: version.number, default=None)

    def retry_in_s(self, now_s: float) -> float | None:
        """Returns the seconds until a version is due to be loaded; None: none waits."""
        times = [v.retry_at_s for v in self.versions.values() if v.is_waiting]
        return max(0.0, min(times) - now_s) if times else None

    @property
    def is_busy(self) -> bool:
        """Whether a version is loading, loaded or unloading."""
        return any(
            v.in_loader or v.state in (AVAILABLE, UNLOADING)
            for v in self.versions.values()
        )

    @property
    def is_settled(self) -> bool:
        """Whether a desired version is available, or all have failed for good."""
        desired = [v for v in self.versions.values() if v.desired]
        return self.serves or (bool(desired) and all(v.state == END for v in desired))

    @property
    def serves(self) -> bool:
        """Whether a desired version is available."""
        return any(v.desired for v in self.available)

    def failure(self) -> str:
        """Returns the reason that the model is unavailable, in TF Serving's words."""
        desired = [v for v in self.versions.values() if v.desired]
        last = max(desired, key=lambda version: version.number)
        text = f"{{name: {self.name} version: {last.number}}}"
        if last.error:
            text += f" due to error: {last.error.code.name}: {last.error.message}"
        return text
