"""Loads versions, gives them to those who use them, and unloads them.

Knows no configs and no base paths: `Manager` says which versions are wanted.
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

# What is tried for a version: (model, number, where it lies) -> what serves it.
Load = Callable[[str, int, Location], Any]

_CODES = (
    (FileNotFoundError, StatusCode.NOT_FOUND),
    (PermissionError, StatusCode.PERMISSION_DENIED),
    (OSError, StatusCode.UNKNOWN),
    (ValueError, StatusCode.INVALID_ARGUMENT),
    (MemoryError, StatusCode.RESOURCE_EXHAUSTED),
)
_LAST_WAIT_S = 5.0  # for what is loading, and for closing


class ModelLoader:
    """Holds the versions of all models.

    A model has a thread that loads while there is something to load, and a version that
    goes has one that waits for its last user. One lock guards all that is known, and
    nobody loads, closes or speaks while holding it.

    Attributes:
        lock: Guards all of it; enough, and quicker, where nobody waits or notifies.
        changed: The lock with what is notified of each change.
        lineups: {model: its versions}, those of models that are gone too.
    """

    def __init__(
        self,
        load: Load,
        *,
        load_retries: int,
        retry_s: float,
        say: Callable[[str], object],
    ):
        self._load, self._say = load, say
        self._load_retries, self._retry_s = load_retries, retry_s
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.lineups: dict[str, VersionStates] = {}
        # {model: {version, and None for the latest: it}}, of those that serve.
        self._serving: dict[str, dict[int | None, Version]] = {}
        self._is_impatient = False
        self._left = False  # whether a version is used to the end

    def want(self, name: str, found: Mapping[int, Location]) -> None:
        """Sets which versions of a model are to be served; the lock is held."""
        lineup = self.lineups.setdefault(name, VersionStates(name))
        lineup.want(found)
        self._advance(lineup)

    def take(self, name: str, number: int | None) -> Version | None:
        """Counts a user of a version that serves, and returns it; the lock is held.

        A number of None is the latest. Returns None where there is none.
        """
        version = self._serving.get(name, {}).get(number)
        if version is not None:
            version.users += 1
        return version

    def give_back(self, version: Version) -> None:
        """Counts a user less."""
        with self.lock:
            version.users -= 1
            if not version.users and version.state == UNLOADING:
                self.changed.notify_all()

    def close(self, drain_s: float) -> bool:
        """Waits until nothing is used or loaded, and closes all.

        What is used for longer than `drain_s` is left as it is: closing it would end
        the process.

        Returns:
            Whether all is closed.
        """
        with self.changed:
            for name in self.lineups:
                self.want(name, {})
            if not self.changed.wait_for(self._is_idle, drain_s):
                self._is_impatient = True
                self.changed.notify_all()
                self.changed.wait_for(self._is_idle, _LAST_WAIT_S)
            busy = [lineup.name for lineup in self.lineups.values() if lineup.is_busy]
            left = self._left
        for name in busy:
            self.tell(f"Model {name} was still busy when the server stopped.")
        return not (busy or left)

    def tell(self, line: str) -> None:
        """Writes a line of the log."""
        with suppress(OSError, ValueError):  # nobody reads it any more, as under `head`
            self._say(line)

    def _is_idle(self) -> bool:
        return not any(lineup.is_busy for lineup in self.lineups.values())

    def _advance(self, lineup: VersionStates) -> None:
        """Begins what is to happen next; the lock is held."""
        if not lineup.has_loader and lineup.retry_in_s(0.0) is not None:
            lineup.has_loader = self._start(self._load_all, lineup)
        for version in lineup.to_unload():
            if self._start(self._unload, version):
                version.state = UNLOADING
        self._publish(lineup)
        self.changed.notify_all()

    def _publish(self, lineup: VersionStates) -> None:
        serving = {version.number: version for version in lineup.available}
        latest = {None: serving[max(serving)]} if serving else {}
        self._serving[lineup.name] = serving | latest

    def _start(self, work: Callable, what: VersionStates | Version) -> bool:
        name = f"{work.__name__.strip('_')} {what.name}"
        thread = threading.Thread(target=work, args=(what,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be had; the next `want` tries again
            return False
        return True

    def _load_all(self, lineup: VersionStates) -> None:
        """Loads what waits, one after the other, until nothing does."""
        while True:
            with self.changed:
                version = lineup.to_load(time.monotonic())
                while version is None:
                    wait_s = lineup.retry_in_s(time.monotonic())
                    if wait_s is None:
                        lineup.has_loader = False
                        return
                    self.changed.wait(wait_s)
                    version = lineup.to_load(time.monotonic())
                version.begin()
            self._try(lineup, version)

    def _try(self, lineup: VersionStates, version: Version) -> None:
        before, servable, error = version.error, None, None
        try:
            servable = self._load(version.name, version.number, version.location)
        except Exception as caught:  # whatever it is, the old version goes on
            error = self._as_error(caught)
        with self.changed:
            if error is None:
                is_kept = version.succeed(servable)
            else:
                retry_at_s = time.monotonic() + self._retry_s
                version.fail(error, self._load_retries, retry_at_s)
            self._advance(lineup)
            is_over = version.state == END
        if error is not None:
            is_new = before is None or before.message != error.message
            self._tell_failure(version, error.message if is_new else None, is_over)
        elif is_kept:
            self.tell(f"{version} is available.")
        else:
            self._unload(version)

    def _tell_failure(
        self, version: Version, reason: str | None, is_over: bool
    ) -> None:
        again = f" It is tried again every {self._retry_s:g} s, at most "
        again += f"{self._load_retries} times."
        if reason is not None:
            self.tell(f"{version} does not load: {reason}{'' if is_over else again}")
        if is_over and version.failures > 1:
            self.tell(
                f"{version} did not load {version.failures} times, and is given up."
            )

    def _as_error(self, caught: Exception) -> ServingError:
        if isinstance(caught, ServingError):
            return caught
        if isinstance(caught, tf.errors.OpError):
            return from_tensorflow_error(caught)
        text = str(caught) or type(caught).__name__
        for kind, code in _CODES:
            if isinstance(caught, kind):
                return ServingError(code, text)
        self.tell("".join(traceback.format_exception(caught)))
        return ServingError(StatusCode.INTERNAL, f"{type(caught).__name__}: {text}")

    def _close(self, version: Version) -> None:
        try:
            version.servable.close()
        except Exception:  # it is gone all the same
            self.tell(f"{version} did not close well. {traceback.format_exc()}")
        else:
            self.tell(f"{version} is unloaded.")

    def _unload(self, version: Version) -> None:
        """Closes a version when its last user has gone."""
        with self.changed:
            self.changed.wait_for(lambda: not version.users or self._is_impatient)
            users = version.users
        if users:
            self.tell(f"{version} is left: {users} requests still use it.")
        else:
            self._close(version)
        with self.changed:
            self._left |= bool(users)
            version.retire()
            self.changed.notify_all()
