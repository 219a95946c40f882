"""gRPC transport: one channel for all calls, blocking or awaited.

gRPC's own retries are off; `retry.py` retries.

gRPC does not mark a status that it creates itself. So UNAVAILABLE counts as the
server's if the channel is connected afterwards, even if it broke and was restored
within milliseconds; if it is not connected, `diagnosis.py` finds the cause.
"""

import re
import ssl
import time
from pathlib import Path

import grpc
import grpc.aio

from serving.client import grpc_codec
from serving.client.diagnosis import find_cause, find_cause_async
from serving.client.errors import (
    TRANSIENT,
    PredictError,
    connection_error,
    response_size_error,
    timeout_error,
)
from serving.client.requests import Call, Reply
from serving.client.settings import Settings, Tls

_SIZE = re.compile(r"\d{1,19}")  # up to 2^63; int() refuses thousands of digits


class _GrpcTransport:
    """A channel that is replaced if its connection is dead."""

    codec = grpc_codec
    _grpc = grpc

    def __init__(self, settings: Settings):
        self._settings, self._last_response_s = settings, 0.0
        self._channel = _channel(self._grpc, settings)

    def _renew(self, error: grpc.RpcError, channel, start_s: float) -> None:
        """Opens a new channel after a timeout without any response since `start_s`.

        A half-open connection (the machine, or a gateway's state, is gone) would never
        fail. Pending calls keep the old channel, which closes with the last of them.
        """
        is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if is_late and channel is self._channel and self._last_response_s < start_s:
            self._channel = _channel(self._grpc, self._settings)


class GrpcTransport(_GrpcTransport):
    """Blocking transport for any number of threads."""

    def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call and waits for its reply.

        Raises:
            PredictError: The server refuses the call, or does not respond in time.
        """
        encoded = grpc_codec.encode(call, self._settings.target)
        channel, start_s = self._channel, time.monotonic()
        try:
            # Bytes in and out: the codec converts the messages and raises our errors.
            method = channel.unary_unary(encoded.path)
            response = method(encoded.content, timeout=timeout_s)
        except grpc.RpcError as error:
            self._renew(error, channel, start_s)
            if not _is_unavailable(error) or _is_connected(channel):
                raise _refusal(error, self._settings, len(encoded.content)) from None
            cause = find_cause(self._settings, start_s + timeout_s - time.monotonic())
            text = error.details() or ""
            raise connection_error(cause, self._settings.target, text) from None
        self._last_response_s = time.monotonic()
        return encoded.decode(response)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport(_GrpcTransport):
    """Awaited transport for the event loop that it is created in."""

    _grpc = grpc.aio

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call, as `GrpcTransport.send`."""
        encoded = grpc_codec.encode(call, self._settings.target)
        channel, start_s = self._channel, time.monotonic()
        try:
            method = channel.unary_unary(encoded.path)
            response = await method(encoded.content, timeout=timeout_s)
        except grpc.RpcError as error:
            self._renew(error, channel, start_s)
            is_connected = channel.get_state() is grpc.ChannelConnectivity.READY
            if not _is_unavailable(error) or is_connected:
                raise _refusal(error, self._settings, len(encoded.content)) from None
            remaining_s = start_s + timeout_s - time.monotonic()
            cause = await find_cause_async(self._settings, remaining_s)
            text = error.details() or ""
            raise connection_error(cause, self._settings.target, text) from None
        self._last_response_s = time.monotonic()
        return encoded.decode(response)

    async def close(self) -> None:
        await self._channel.close()


def _channel(module, settings: Settings):
    """Opens a channel of `grpc` or `grpc.aio`; it connects with the first call."""
    max_bytes = settings.max_message_bytes
    options = [
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a new channel has new connections
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.max_send_message_length", max_bytes),
        ("grpc.max_receive_message_length", max_bytes),
    ]
    if settings.target.removeprefix("dns:///").rpartition(":")[0] != "localhost":
        # Not for ::1 and 127.0.0.1: one of them is often refused, and would hide the
        # error of the other.
        options.append(("grpc.lb_policy_name", "round_robin"))
    compression = grpc.Compression.Gzip if settings.gzip else None
    if settings.tls is None:
        return module.insecure_channel(settings.target, options, compression)
    if name := settings.tls.server_name:
        options.append(("grpc.ssl_target_name_override", name))
    credentials = _credentials(settings.tls)
    return module.secure_channel(settings.target, credentials, options, compression)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca = tls.ca or ssl.get_default_verify_paths().cafile
    paths = (ca, tls.key, tls.cert)
    return grpc.ssl_channel_credentials(*(p and Path(p).read_bytes() for p in paths))


def _is_unavailable(error: grpc.RpcError) -> bool:
    return error.code() is grpc.StatusCode.UNAVAILABLE


def _is_connected(channel: grpc.Channel) -> bool:
    # Channel.subscribe would start a thread, which fails with a traceback on stderr if
    # the channel is closed within the next milliseconds.
    state = channel._channel.check_connectivity_state(False)
    return state == grpc.ChannelConnectivity.READY.value[0]


def _refusal(
    error: grpc.RpcError, settings: Settings, request_bytes: int
) -> PredictError:
    """Returns the error of a call that the server, or gRPC in this client, refused.

    RESOURCE_EXHAUSTED is a full queue, or a message that is too large. The text of the
    latter has its size and the smaller limit, or the limit of decompressed requests.
    """
    code, text, target = error.code().name, error.details() or "", settings.target
    if code == "DEADLINE_EXCEEDED":
        return timeout_error(target, settings.timeout_s)
    is_transient = code in TRANSIENT
    if code == "RESOURCE_EXHAUSTED":
        size, *limit = [int(number) for number in _SIZE.findall(text)] or [0]
        if len(limit) == 1 and size > limit[0]:
            if limit[0] == settings.max_message_bytes and size != request_bytes:
                return response_size_error(target, settings.max_message_bytes)
            is_transient = False
        elif not limit and 0 < size < request_bytes:
            is_transient = False
    return PredictError(code, text, target=target, is_transient=is_transient)
