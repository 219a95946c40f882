"""The versions of one model, from wanted to gone, and what happens to them next.

Knows no threads and no clock: `Manager` guards it by its lock and tells it the time.

Source: TensorFlow Serving 2.16.1 for the rules: AvailabilityPreservingPolicy (what is
loaded and unloaded next), AspiredVersionsManager (what is wanted), LoaderHarness
(retries), ServableStateMonitor (what is remembered).
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
        name, number, location: Of which model, which one, and where it lies.
        state: As GetModelStatus reports it.
        error: Why it does not load; reported once its state is END.
        servable: What serves it while it is AVAILABLE or UNLOADING.
        users: Requests that use it.
        wanted: Whether it is to be served, as far as is known by now.
        in_loader: Whether `load` runs for it.
        failures: How often it has not loaded.
        retry_at_s: When it may be tried again.
    """

    name: str
    number: int
    location: Location
    state: int = START
    error: ServingError | None = None
    servable: Any = None
    users: int = 0
    wanted: bool = True
    in_loader: bool = False
    failures: int = 0
    retry_at_s: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it is not loaded and not being loaded, but has not ended."""
        return self.state in (START, LOADING) and not self.in_loader

    @property
    def waits(self) -> bool:
        """Whether it is to be loaded, for the first time or again."""
        return self.wanted and self.is_idle

    def is_over(self, location: Location) -> bool:
        """Whether what lies at `location` is to be a new life of this version."""
        if self.state == END:
            return not self.wanted or self.location != location
        return self.is_idle and self.location != location

    def begin(self) -> None:
        """Notes that `load` runs."""
        self.state, self.in_loader = LOADING, True

    def succeed(self, servable: Any) -> bool:
        """Takes what was loaded; returns False where nobody wants it any more."""
        self.in_loader, self.servable, self.error = False, servable, None
        self.state = AVAILABLE if self.wanted else UNLOADING
        if not self.wanted:
            cancelled = "Loading of servable cancelled"
            self.error = ServingError(StatusCode.CANCELLED, cancelled)
        return self.wanted

    def fail(self, error: ServingError, retries: int, retry_at_s: float) -> None:
        """Notes why it did not load; it is tried again, at most `retries` times."""
        self.in_loader, self.error = False, error
        self.failures += 1
        self.retry_at_s = retry_at_s
        if not self.wanted or self.failures > retries:
            self.state = END

    def retire(self) -> None:
        """Notes that it is closed."""
        self.servable, self.state = None, END

    def __str__(self) -> str:
        return f"Version {self.number} of model {self.name}"


class VersionStates:
    """The versions of one model, those that are gone too, as GetModelStatus lists them.

    Attributes:
        versions: {number: the version's last life}.
        has_loader: Whether a thread loads what waits.
    """

    def __init__(self, name: str):
        self.name = name
        self.versions: dict[int, Version] = {}
        self.has_loader = False

    def want(self, found: Mapping[int, Location]) -> None:
        """Sets which versions are to be served.

        What serves goes on if its number is wanted, wherever that lies by now, as in TF
        Serving. A version that has ended begins anew if it was not wanted in between,
        or lies elsewhere; one on its way out, or that is just being loaded from
        elsewhere, when it is gone and `want` is called again.
        """
        for number, location in found.items():
            version = self.versions.get(number)
            if version is None or version.is_over(location):
                self.versions[number] = Version(self.name, number, location)
            elif version.state != UNLOADING:
                serves = version.state == AVAILABLE
                version.wanted = serves or version.location == location
        for number, version in self.versions.items():
            if number not in found:
                version.wanted = False
                if version.is_idle:
                    version.state = END

    @property
    def available(self) -> list[Version]:
        """The versions that serve, the latest last."""
        ready = (v for v in self.versions.values() if v.state == AVAILABLE)
        return sorted(ready, key=lambda version: version.number)

    def to_unload(self) -> list[Version]:
        """Returns the versions that serve and have to go now.

        While others are wanted and none of those serves, the latest of the unwanted
        ones stays.
        """
        wanted = any(v.wanted for v in self.versions.values())
        serves = any(v.wanted for v in self.available)
        unwanted = [v for v in self.available if not v.wanted]
        return unwanted[:-1] if wanted and not serves else unwanted

    def to_load(self, now_s: float) -> Version | None:
        """Returns the version to load now: the highest whose time has come."""
        waits = (v for v in self.versions.values() if v.waits and v.retry_at_s <= now_s)
        return max(waits, key=lambda version: version.number, default=None)

    def retry_in_s(self, now_s: float) -> float | None:
        """Returns how long it is until one is to be loaded; None: none is."""
        waits = [v.retry_at_s for v in self.versions.values() if v.waits]
        return max(0.0, min(waits) - now_s) if waits else None

    @property
    def is_busy(self) -> bool:
        """Whether something is being loaded or unloaded."""
        return any(
            v.in_loader or v.state in (AVAILABLE, UNLOADING)
            for v in self.versions.values()
        )

    @property
    def is_settled(self) -> bool:
        """Whether a wanted version serves, or none will without something new."""
        wanted = [v for v in self.versions.values() if v.wanted]
        return self.serves or (bool(wanted) and all(v.state == END for v in wanted))

    @property
    def serves(self) -> bool:
        """Whether a wanted version serves."""
        return any(v.wanted for v in self.available)

    def failure(self) -> str:
        """Returns why the model does not serve, as TF Serving words it."""
        wanted = [v for v in self.versions.values() if v.wanted]
        last = max(wanted, key=lambda version: version.number)
        text = f"{{name: {self.name} version: {last.number}}}"
        if last.error:
            text += f" due to error: {last.error.code.name}: {last.error.message}"
        return text
