"""Running servers that a new config is given to, over gRPC."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkeras.errors import UserError

_CALL_S = 600.0  # a reload waits until models that are new to the server are loaded
_RESTORE_S = 60.0  # each of many, some of them dead; none has a new model
_STATUS_S = 10.0
_NOT_FOUND = ("not found", "")
_NOWHERE = (_NOT_FOUND, ("END", ""))  # the second: was let go, and is gone since


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Servers, and how long to wait for them.

    Attributes:
        targets: HOST:PORT of each.
        ca: PEM file of the authority that has signed their certificates; None
            without TLS.
        wait_s: How long a version may take until it is available everywhere.
        find_s: How long it may take until some server has found a version on disk.
        poll_s: Pause between two looks.
        stale_s: How long a version that has ended once may still be said to have.
        say_s: How long it waits in silence, at first and from then on.
    """

    targets: Sequence[str]
    ca: Path | None = None
    wait_s: float = 600.0
    find_s: float = 30.0
    poll_s: float = 0.5
    stale_s: float = 3.0
    say_s: tuple[float, float] = (3.0, 15.0)

    def reload(self, config) -> None:
        """Gives each server a ModelServerConfig in place of the one it has.

        Raises:
            UserError: One cannot be reached, or refuses it.
        """
        for target in self.targets:
            self._reload(target, config, _CALL_S)

    def restore(self, config) -> list[str]:
        """Gives each server a config, whatever the others do.

        Returns what went wrong, for each server that may still have another one.
        """
        wrong = []
        for target in self.targets:
            try:
                self._reload(target, config, _RESTORE_S)
            except UserError as error:
                wrong.append(str(error))
        return wrong

    def _reload(self, target: str, config, timeout_s: float) -> None:
        import grpc
        from tensorflow_serving.apis import model_management_pb2

        request = model_management_pb2.ReloadConfigRequest(config=config)
        with self._channel(target) as channel:
            call = _stub(channel).HandleReloadConfigRequest
            try:
                status = call(request, timeout=timeout_s).status
            except grpc.RpcError as error:
                raise _said(target, error) from None
        if status.error_code:
            raise UserError(f"{target} refuses the config: {status.error_message}")

    def states(self, target: str, name: str) -> dict[int, tuple[str, str]]:
        """Returns {version: (state, error)} of a model on one server.

        Raises:
            UserError: The server cannot be reached, or says something else.
        """
        import grpc
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        with self._channel(target) as channel:
            try:
                answer = _stub(channel).GetModelStatus(request, timeout=_STATUS_S)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:  # no version as yet
                    return {}
                raise _said(target, error) from None
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            v.version: (name_of(v.state), v.status.error_message)
            for v in answer.model_version_status
        }

    def wait(self, name: str, versions: Sequence[int]) -> None:
        """Returns when each version is available on each server; says what it awaits.

        Raises:
            UserError: One does not load, is found by no server, or not in time.
        """
        start = time.monotonic()
        silence_s, again_s = self.say_s
        while missing := self._missing(name, versions, start):
            passed_s = time.monotonic() - start
            words = "; ".join(f"{t}: {', '.join(said)}" for t, said in missing.items())
            if passed_s > self.wait_s:
                raise UserError(
                    f"Not AVAILABLE after {self.wait_s:g} s: {words} of '{name}'."
                )
            if passed_s > silence_s:
                for target, said in missing.items():
                    print(f"{target}: waiting for {', '.join(said)} ...", flush=True)
                silence_s = passed_s + again_s
            time.sleep(self.poll_s)

    def _missing(
        self, name: str, versions: Sequence[int], start: float
    ) -> dict[str, list[str]]:
        """Returns {target: versions that it has not yet, and their states}."""
        states = {target: self.states(target, name) for target in self.targets}
        passed_s = time.monotonic() - start
        missing: dict[str, list[str]] = {}
        for version in versions:
            found = {t: s.get(version, _NOT_FOUND) for t, s in states.items()}
            for target, (state, error) in found.items():
                if state == "END" and error and passed_s > self.stale_s:
                    raise UserError(
                        f"{target}: version {version} of '{name}' does not load: "
                        f"{error}"
                    )
                if state != "AVAILABLE":
                    words = f"version {version} ({state})"
                    missing.setdefault(target, []).append(words)
            nowhere = all(one in _NOWHERE for one in found.values())
            if nowhere and self.targets and passed_s > self.find_s:
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


def _said(target: str, error) -> UserError:
    words = " ".join((error.details() or "").split())
    return UserError(f"{target} answers {error.code().name}: {words}")
