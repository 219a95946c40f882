"""Running servers that a new config is given to, over gRPC."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkeras.errors import UserError

_CALL_S = 600.0  # a reload waits until models that are new to the server are loaded
_STATUS_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Servers, and how long to wait for them.

    Attributes:
        targets: HOST:PORT of each.
        ca: PEM file of the authority that has signed their certificates; None
            without TLS.
        wait_s: How long a version may take until it is available everywhere.
        poll_s: Pause between two looks.
        stale_s: How long a version that has ended once may still be said to have.
    """

    targets: Sequence[str]
    ca: Path | None = None
    wait_s: float = 600.0
    poll_s: float = 0.5
    stale_s: float = 3.0

    def reload(self, config) -> None:
        """Gives each server a ModelServerConfig in place of the one it has.

        Raises:
            UserError: One cannot be reached, or refuses it.
        """
        import grpc
        from tensorflow_serving.apis import model_management_pb2

        request = model_management_pb2.ReloadConfigRequest(config=config)
        for target in self.targets:
            with self._channel(target) as channel:
                call = _stub(channel).HandleReloadConfigRequest
                try:
                    status = call(request, timeout=_CALL_S).status
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
        """Returns when each version is available on each server.

        Raises:
            UserError: One does not load, or not in time.
        """
        start = time.monotonic()
        for target in self.targets:
            while waited_for := self._missing(target, name, versions, start):
                if time.monotonic() - start > self.wait_s:
                    raise UserError(
                        f"{target}: not AVAILABLE after {self.wait_s:g} s: "
                        f"{', '.join(waited_for)} of '{name}'."
                    )
                time.sleep(self.poll_s)

    def _missing(
        self, target: str, name: str, versions: Sequence[int], start: float
    ) -> list[str]:
        states = self.states(target, name)
        missing = []
        for version in versions:
            state, error = states.get(version, ("not found", ""))
            if state == "AVAILABLE":
                continue
            fresh = time.monotonic() - start > self.stale_s
            if state == "END" and error and fresh:
                raise UserError(
                    f"{target}: version {version} of '{name}' does not load: {error}"
                )
            missing.append(f"version {version} ({state})")
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
