"""gRPC client of running servers: new configs, and states of versions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkeras.errors import UserError, one_line

_RELOAD_S = 600.0  # a reload waits until models that are new to the server are loaded
_RESTORE_S = 60.0  # per server, without new models; some servers may be down
_STATUS_S = 10.0
_NOT_FOUND = ("not found", "")
_ABSENT = (_NOT_FOUND, ("END", ""))  # the second was unloaded and removed


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Servers and time limits.

    Attributes:
        targets: HOST:PORT of each server.
        ca: PEM file of the authority that signed their certificates; None: no TLS.
        wait_s: Limit until a version is available on all servers.
        find_s: Limit until a server finds a version on disk.
        poll_s: Pause between two status calls.
        stale_s: Time for which an error of an earlier load may still be reported.
        report_s: Waiting time before the first progress line, and between lines.
    """

    targets: Sequence[str]
    ca: Path | None = None
    wait_s: float = 600.0
    find_s: float = 30.0
    poll_s: float = 0.5
    stale_s: float = 3.0
    report_s: tuple[float, float] = (3.0, 15.0)

    def reload(self, config) -> None:
        """Replaces the ModelServerConfig of each server.

        Raises:
            UserError: A server cannot be reached, or refuses the config.
        """
        for target in self.targets:
            self._reload(target, config, _RELOAD_S)

    def restore(self, config) -> list[str]:
        """Replaces the config of each server that responds; returns the errors."""
        errors = []
        for target in self.targets:
            try:
                self._reload(target, config, _RESTORE_S)
            except UserError as error:
                errors.append(str(error))
        return errors

    def _reload(self, target: str, config, timeout_s: float) -> None:
        import grpc
        from tensorflow_serving.apis import model_management_pb2

        request = model_management_pb2.ReloadConfigRequest(config=config)
        with self._channel(target) as channel:
            call = _stub(channel).HandleReloadConfigRequest
            try:
                status = call(request, timeout=timeout_s).status
            except grpc.RpcError as error:
                raise _call_error(target, error) from None
        if status.error_code:
            raise UserError(f"{target} refuses the config: {status.error_message}")

    def states(self, target: str, name: str) -> dict[int, tuple[str, str]]:
        """Returns {version: (state, error)} of a model on one server.

        Raises:
            UserError: The server cannot be reached, or returns an error.
        """
        import grpc
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        with self._channel(target) as channel:
            try:
                response = _stub(channel).GetModelStatus(request, timeout=_STATUS_S)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:  # no version yet
                    return {}
                raise _call_error(target, error) from None
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            v.version: (name_of(v.state), v.status.error_message)
            for v in response.model_version_status
        }

    def wait(self, name: str, versions: Sequence[int]) -> None:
        """Waits until each version is available on each server; prints progress.

        Raises:
            UserError: A version does not load, is not found, or is not there in time.
        """
        start_s = time.monotonic()
        report_s, pause_s = self.report_s
        while missing := self._missing(name, versions, start_s):
            waited_s = time.monotonic() - start_s
            if waited_s > self.wait_s:
                text = "; ".join(f"{t}: {', '.join(v)}" for t, v in missing.items())
                text = f"{self.wait_s:g} s: {text} of '{name}'"
                raise UserError(f"Not AVAILABLE after {text}.")
            if waited_s > report_s:
                for target, words in missing.items():
                    print(f"{target}: waiting for {', '.join(words)} ...", flush=True)
                report_s = waited_s + pause_s
            time.sleep(self.poll_s)

    def _missing(
        self, name: str, versions: Sequence[int], start_s: float
    ) -> dict[str, list[str]]:
        """Returns {target: versions that are not available yet, with their states}."""
        states = {target: self.states(target, name) for target in self.targets}
        waited_s = time.monotonic() - start_s
        missing: dict[str, list[str]] = {}
        for version in versions:
            by_target = {t: s.get(version, _NOT_FOUND) for t, s in states.items()}
            for target, (state, error) in by_target.items():
                if state == "END" and error and waited_s > self.stale_s:
                    raise UserError(
                        f"{target}: version {version} of '{name}' does not load: "
                        f"{error}"
                    )
                if state != "AVAILABLE":
                    words = f"version {version} ({state})"
                    missing.setdefault(target, []).append(words)
            is_absent = all(state in _ABSENT for state in by_target.values())
            if is_absent and self.targets and waited_s > self.find_s:
                raise UserError(
                    f"No server has found version {version} of '{name}' after "
                    f"{self.find_s:g} s; is it in the model's base path?"
                )
        return missing

    def _channel(self, target: str):
        import grpc

        if self.ca is None:
            return grpc.insecure_channel(target)
        try:
            authority = self.ca.read_bytes()
        except OSError as error:
            raise UserError(f"--ca '{self.ca}' cannot be read: {error}.") from None
        credentials = grpc.ssl_channel_credentials(authority)
        return grpc.secure_channel(target, credentials)


def _stub(channel):
    from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

    return ModelServiceStub(channel)


def _call_error(target: str, error) -> UserError:
    text = one_line(error.details() or "")
    return UserError(f"{target} returned {error.code().name}: {text}")
