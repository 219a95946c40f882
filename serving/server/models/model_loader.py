"""Loading, use and unloading of model versions, in threads.

Configs and base paths belong to `Manager`, which sets the desired versions.
"""

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import tensorflow as tf
from grpc import StatusCode

from serving.server.errors import ServingError, from_tensorflow_error
from serving.server.models.version_states import END, UNLOADING, Version, VersionStates
from serving.server.models.versions import Location

# load(model name, version number, folder) -> servable with close()
Load = Callable[[str, int, Location], Any]

_CODES = (
    (FileNotFoundError, StatusCode.NOT_FOUND),
    (PermissionError, StatusCode.PERMISSION_DENIED),
    (OSError, StatusCode.UNKNOWN),
    (ValueError, StatusCode.INVALID_ARGUMENT),
    (MemoryError, StatusCode.RESOURCE_EXHAUSTED),
)
_LAST_WAIT_S = 5.0  # for running loads and closes, after the drain time


class ModelLoader:
    """Versions of all models, with the threads that load and unload them.

    Each model has a thread while versions wait to be loaded. Each version to unload has
    a thread that waits for its last user. One lock guards the state; it is never held
    while a version is loaded or closed, or a line is logged.

    Attributes:
        lock: Lock of the state; faster than `changed` where nothing is awaited.
        changed: Condition on the same lock, notified of each change.
        version_states: {model: its versions}, removed models included.
    """

    def __init__(
        self,
        load: Load,
        *,
        load_retries: int,
        retry_s: float,
        log: Callable[[str], object],
    ):
        self._load, self._write_log = load, log
        self._load_retries, self._retry_s = load_retries, retry_s
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.version_states: dict[str, VersionStates] = {}
        # {model: {number, or None for the latest: available version}}
        self._available: dict[str, dict[int | None, Version]] = {}
        self._drain_is_over = False
        self._abandoned_any = False  # whether a version stayed in use to the end

    def set_desired_versions(
        self, name: str, locations: Mapping[int, Location]
    ) -> None:
        """Sets which versions of a model should be served; the lock must be held."""
        states = self.version_states.setdefault(name, VersionStates(name))
        states.set_desired_versions(locations)
        self._advance(states)

    def acquire(self, name: str, number: int | None) -> Version | None:
        """Returns an available version and counts its user; the lock must be held.

        A number of None is the latest. Returns None if there is no such version.
        """
        version = self._available.get(name, {}).get(number)
        if version is not None:
            version.users += 1
        return version

    def release(self, version: Version) -> None:
        """Ends one use of a version."""
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
            for name in self.version_states:
                self.set_desired_versions(name, {})
            if not self.changed.wait_for(self._is_idle, drain_s):
                self._drain_is_over = True
                self.changed.notify_all()
                self.changed.wait_for(self._is_idle, _LAST_WAIT_S)
            busy = [
                states.name for states in self.version_states.values() if states.is_busy
            ]
            abandoned_any = self._abandoned_any
        for name in busy:
            self.log(f"Model {name} was still busy when the server stopped.")
        return not (busy or abandoned_any)

    def log(self, line: str) -> None:
        """Writes a line of the log, if its reader has not closed the pipe."""
        with suppress(OSError, ValueError):
            self._write_log(line)

    def _is_idle(self) -> bool:
        return not any(states.is_busy for states in self.version_states.values())

    def _advance(self, states: VersionStates) -> None:
        """Starts the due loads and unloads; the lock must be held."""
        if not states.has_loader and states.retry_in_s(0.0) is not None:
            states.has_loader = self._start(self._load_all, states)
        for version in states.to_unload():
            if self._start(self._unload, version):
                version.state = UNLOADING
        self._publish(states)
        self.changed.notify_all()

    def _publish(self, states: VersionStates) -> None:
        available = {version.number: version for version in states.available}
        latest = {None: available[max(available)]} if available else {}
        self._available[states.name] = available | latest

    def _start(self, work: Callable, target: VersionStates | Version) -> bool:
        name = f"{work.__name__.strip('_')} {target.name}"
        thread = threading.Thread(target=work, args=(target,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too many threads; the next `_advance` tries again
            return False
        return True

    def _load_all(self, states: VersionStates) -> None:
        """Loads the waiting versions of a model, one after the other."""
        while True:
            with self.changed:
                version = states.next_to_load(time.monotonic())
                while version is None:
                    wait_s = states.retry_in_s(time.monotonic())
                    if wait_s is None:
                        states.has_loader = False
                        return
                    self.changed.wait(wait_s)
                    version = states.next_to_load(time.monotonic())
                version.mark_loading()
            self._load_version(states, version)

    def _load_version(self, states: VersionStates, version: Version) -> None:
        previous_error, servable, error = version.error, None, None
        try:
            servable = self._load(version.name, version.number, version.location)
        except Exception as exception:  # the old version stays in any case
            error = self._to_serving_error(exception)
        with self.changed:
            if error is None:
                is_desired = version.mark_loaded(servable)
            else:
                retry_at_s = time.monotonic() + self._retry_s
                version.mark_failed(error, self._load_retries, retry_at_s)
            self._advance(states)
            is_final = version.state == END
        if error is not None:
            is_new = previous_error is None or previous_error.message != error.message
            self._log_failure(version, error.message if is_new else None, is_final)
        elif is_desired:
            self.log(f"{version} is available.")
        else:
            self._unload(version)

    def _log_failure(
        self, version: Version, reason: str | None, is_final: bool
    ) -> None:
        retries = f" It is tried again every {self._retry_s:g} s, at most "
        retries += f"{self._load_retries} times."
        if reason is not None:
            self.log(f"{version} does not load: {reason}{'' if is_final else retries}")
        if is_final and version.failures > 1:
            self.log(
                f"{version} did not load {version.failures} times, and is given up."
            )

    def _to_serving_error(self, error: Exception) -> ServingError:
        if isinstance(error, ServingError):
            return error
        if isinstance(error, tf.errors.OpError):
            return from_tensorflow_error(error)
        text = str(error) or type(error).__name__
        for kind, code in _CODES:
            if isinstance(error, kind):
                return ServingError(code, text)
        self.log("".join(traceback.format_exception(error)))
        return ServingError(StatusCode.INTERNAL, f"{type(error).__name__}: {text}")

    def _close(self, version: Version) -> None:
        try:
            version.servable.close()
        except Exception:  # the version counts as unloaded all the same
            self.log(f"{version} did not close well. {traceback.format_exc()}")
        else:
            self.log(f"{version} is unloaded.")

    def _unload(self, version: Version) -> None:
        """Waits for the last user of a version, and closes it."""
        with self.changed:
            self.changed.wait_for(lambda: not version.users or self._drain_is_over)
            users = version.users
        if users:
            self.log(f"{version} is left: {users} requests still use it.")
        else:
            self._close(version)
        with self.changed:
            self._abandoned_any |= bool(users)
            version.mark_unloaded()
            self.changed.notify_all()
