"""gRPC: one channel, kept; to wait for, or to await.

What is sent again is decided in `retry.py` alone: gRPC's own retries, its transparent
ones too, are off. It connects anew soon after a failure, as the retries want it.
"""

import os
import ssl
import time

import grpc
import grpc.aio

from serving.client import grpc_wire
from serving.client.calls import Call, Reply
from serving.client.errors import (
    TRANSIENT,
    PredictError,
    too_large,
    too_late,
    unreached,
)
from serving.client.settings import Settings, Tls

# gRPC says so itself, not the server, where no call has come through, or not whole.
_UNREACHED = ("failed to connect", "dns resolution failed", "socket closed")
_UNREACHED += ("connection reset", "broken pipe", "goaway", "empty address list")
_UNREACHED += ("timeout occurred", "fd shutdown", "all backends failing")
_UNREACHED += ("errors resolving",)
_TOO_LARGE = "larger than max"


class _Door:
    """A channel, and another one where it may lead to nobody any more."""

    wire = grpc_wire
    _kind = grpc

    def __init__(self, settings: Settings):
        self._settings, self._heard_s = settings, 0.0
        self._channel = _channel(self._kind, settings)

    def _missed(self, error: grpc.RpcError, channel, began_s: float) -> PredictError:
        """Opens a new channel where nothing has come over this one since `began_s`.

        A peer that went without a word (its machine, or a gateway's memory) would be
        asked for ever. Calls under way keep the old channel; it closes with the last.
        """
        is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if is_late and channel is self._channel and self._heard_s < began_s:
            self._channel = _channel(self._kind, self._settings)
        return _meaning(error, self._settings)


class GrpcDoor(_Door):
    """Sends calls and waits for the replies, from any thread."""

    def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call.

        Raises:
            PredictError: Refused, unreached, or not answered in time.
        """
        sent = grpc_wire.send(call, self._settings.target)
        channel, began_s = self._channel, time.monotonic()
        try:
            # Bytes in and out: the messages are made and read where errors are ours.
            response = channel.unary_unary(sent.path)(sent.content, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._missed(error, channel, began_s) from None
        self._heard_s = time.monotonic()
        return sent.read(response)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcDoor(_Door):
    """Sends calls and awaits the replies, in the loop that it was made in."""

    _kind = grpc.aio

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """As `GrpcDoor.send`."""
        sent = grpc_wire.send(call, self._settings.target)
        channel, began_s = self._channel, time.monotonic()
        try:
            method = channel.unary_unary(sent.path)
            response = await method(sent.content, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._missed(error, channel, began_s) from None
        self._heard_s = time.monotonic()
        return sent.read(response)

    async def close(self) -> None:
        await self._channel.close()


def _channel(kind, settings: Settings):
    """Opens a channel of `grpc` or of `grpc.aio`; it connects with the first call."""
    largest = settings.max_message_bytes
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a new channel has new connections
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.max_send_message_length", largest),
        ("grpc.max_receive_message_length", largest),
    ]
    if settings.target.removeprefix("dns:///").rpartition(":")[0] != "localhost":
        # Not of ::1 and 127.0.0.1: one is often refused, and would hide the error of
        # the other.
        options.append(("grpc.lb_policy_name", "round_robin"))
    packing = grpc.Compression.Gzip if settings.gzip else None
    if settings.tls is None:
        return kind.insecure_channel(settings.target, options, packing)
    if name := settings.tls.server_name:
        options.append(("grpc.ssl_target_name_override", name))
    credentials = _credentials(settings.tls)
    return kind.secure_channel(settings.target, credentials, options, packing)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_content(tls.ca or ssl.get_default_verify_paths().cafile),
        private_key=_content(tls.key),
        certificate_chain=_content(tls.cert),
    )


def _content(path) -> bytes | None:
    if path is None:
        return None
    with open(os.fspath(path), "rb") as file:
        return file.read()


def _meaning(error: grpc.RpcError, settings: Settings) -> PredictError:
    code, text, target = error.code().name, error.details() or "", settings.target
    lowered = text.lower()
    if code == "UNAVAILABLE" and any(part in lowered for part in _UNREACHED):
        return unreached(text, target)
    if code == "DEADLINE_EXCEEDED":
        return too_late(target, settings.timeout_s)
    if code == "RESOURCE_EXHAUSTED" and _TOO_LARGE in lowered:
        if "client:" in lowered:  # an answer that gRPC did not take here
            return too_large(target, settings.max_message_bytes)
        return PredictError(code, text, target=target)
    return PredictError(code, text, target=target, is_transient=code in TRANSIENT)
