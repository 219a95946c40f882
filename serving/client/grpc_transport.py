"""gRPC: one channel, kept; to wait for, or to await.

What is sent again is decided in `retry.py` alone: gRPC's own retries, its transparent
ones too, are off. It connects anew soon after a failure, as the retries want it.

gRPC does not mark a status that it made itself: its metadata are empty, as those of a
status from a server are. So an UNAVAILABLE call counts as answered if its channel is
connected afterwards; if not, `diagnosis.py` finds the cause. A connection that broke
and was opened again within milliseconds counts as answered too.
"""

import os
import queue
import re
import ssl
import time

import grpc
import grpc.aio

from serving.client import grpc_codec
from serving.client.diagnosis import find_cause, find_cause_async
from serving.client.errors import (
    TRANSIENT,
    Cause,
    PredictError,
    too_large,
    too_late,
    unreached,
)
from serving.client.requests import Call, Reply
from serving.client.settings import Settings, Tls

_STATE_S = 0.5  # gRPC gives a channel's state within milliseconds


class _GrpcTransport:
    """A channel, and another one where it may lead to nobody any more."""

    wire = grpc_codec
    _kind = grpc

    def __init__(self, settings: Settings):
        self._settings, self._heard_s = settings, 0.0
        self._channel = _channel(self._kind, settings)

    def _renew(self, error: grpc.RpcError, channel, began_s: float) -> None:
        """Opens a new channel where nothing has come over this one since `began_s`.

        A peer that went without a word (its machine, or a gateway's memory) would be
        asked for ever. Calls under way keep the old channel; it closes with the last.
        """
        is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if is_late and channel is self._channel and self._heard_s < began_s:
            self._channel = _channel(self._kind, self._settings)


class GrpcTransport(_GrpcTransport):
    """Sends calls and waits for the replies, from any thread."""

    def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call.

        Raises:
            PredictError: Refused, unreached, or not answered in time.
        """
        sent = grpc_codec.send(call, self._settings.target)
        channel, began_s = self._channel, time.monotonic()
        try:
            # Bytes in and out: the messages are made and read where errors are ours.
            response = channel.unary_unary(sent.path)(sent.content, timeout=timeout_s)
        except grpc.RpcError as error:
            self._renew(error, channel, began_s)
            if not _is_unavailable(error) or _is_connected(channel):
                raise _refusal(error, self._settings, len(sent.content)) from None
            left_s = timeout_s - (time.monotonic() - began_s)
            cause = find_cause(self._settings, left_s)
            raise _unreached(cause, error, self._settings) from None
        self._heard_s = time.monotonic()
        return sent.read(response)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport(_GrpcTransport):
    """Sends calls and awaits the replies, in the loop that it was made in."""

    _kind = grpc.aio

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """As `GrpcDoor.send`."""
        sent = grpc_codec.send(call, self._settings.target)
        channel, began_s = self._channel, time.monotonic()
        try:
            method = channel.unary_unary(sent.path)
            response = await method(sent.content, timeout=timeout_s)
        except grpc.RpcError as error:
            self._renew(error, channel, began_s)
            is_connected = channel.get_state() is grpc.ChannelConnectivity.READY
            if not _is_unavailable(error) or is_connected:
                raise _refusal(error, self._settings, len(sent.content)) from None
            left_s = timeout_s - (time.monotonic() - began_s)
            cause = await find_cause_async(self._settings, left_s)
            raise _unreached(cause, error, self._settings) from None
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


def _is_unavailable(error: grpc.RpcError) -> bool:
    return error.code() is grpc.StatusCode.UNAVAILABLE


def _is_connected(channel: grpc.Channel) -> bool:
    """Returns whether a channel has a connection now."""
    states: queue.SimpleQueue = queue.SimpleQueue()
    callback = states.put
    channel.subscribe(callback)
    try:
        return states.get(timeout=_STATE_S) is grpc.ChannelConnectivity.READY
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(callback)


def _unreached(cause: Cause, error: grpc.RpcError, settings: Settings) -> PredictError:
    return unreached(cause, settings.target, error.details() or "")


def _refusal(
    error: grpc.RpcError, settings: Settings, request_bytes: int
) -> PredictError:
    """Returns the error of a call that the server, or gRPC in this client, refused.

    RESOURCE_EXHAUSTED is a full queue, which may be tried again, or a message that is
    too large. Of the latter the text has two numbers, the size and the smaller limit,
    or, if the server stopped inflating the request, the limit alone.
    """
    code, text, target = error.code().name, error.details() or "", settings.target
    if code == "DEADLINE_EXCEEDED":
        return too_late(target, settings.timeout_s)
    is_transient = code in TRANSIENT
    if code == "RESOURCE_EXHAUSTED":
        size, *limit = [int(number) for number in re.findall(r"\d+", text)] or [0]
        if len(limit) == 1 and size > limit[0]:
            is_answer = limit[0] == settings.max_message_bytes and size != request_bytes
            if is_answer:
                return too_large(target, settings.max_message_bytes)
            is_transient = False
        elif not limit and 0 < size < request_bytes:
            is_transient = False
    return PredictError(code, text, target=target, is_transient=is_transient)
