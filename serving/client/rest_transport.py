"""REST transport: one connection pool for all calls, blocking or awaited."""

import asyncio
import threading
import time
import weakref
from typing import TypeAlias

import httpx

from serving.client import rest_codec
from serving.client.diagnosis import cause_of, find_cause_async
from serving.client.errors import (
    Cause,
    connection_error,
    response_error,
    response_size_error,
    timeout_error,
)
from serving.client.requests import Call, EncodedCall, Reply
from serving.client.settings import Settings, Tls

_POOL = httpx.Limits(max_connections=None, max_keepalive_connections=64)
# Errors of an open connection.
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

Response: TypeAlias = tuple[int, str | None, bytes]  # status, Retry-After, body


class RestTransport:
    """Blocking transport for any number of threads.

    Calls run in an event loop in a background thread: httpx's blocking client limits
    each read instead of the call, and its waits cannot be interrupted.
    """

    codec = rest_codec

    def __init__(self, settings: Settings):
        self._settings, self._transport = settings, AsyncRestTransport(settings)
        self._lock, self._is_closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        # Stops the thread of a transport that is never closed, too.
        self._stop = weakref.finalize(
            self, self._loop.call_soon_threadsafe, self._loop.stop
        )
        arguments = (self._loop, self._transport)
        self._thread = threading.Thread(
            target=_run_loop, args=arguments, daemon=True, name="rest-transport"
        )
        self._thread.start()

    def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call and waits for its reply.

        Raises:
            PredictError: The server refuses the call, or does not respond in time.
            RuntimeError, concurrent.futures.CancelledError: The transport is closed.
        """
        encoded = rest_codec.encode(call, self._settings.target)
        with self._lock:
            if self._is_closed:
                raise RuntimeError("The transport is closed.")
            future = asyncio.run_coroutine_threadsafe(
                self._transport.fetch(encoded, timeout_s), self._loop
            )
        try:
            return encoded.decode(*future.result())
        finally:
            future.cancel()  # after Ctrl-C; else it is done

    def close(self) -> None:
        """Cancels the pending calls."""
        with self._lock:
            self._is_closed = True
        self._stop()
        self._thread.join()


class AsyncRestTransport:
    """Awaited transport for one event loop."""

    codec = rest_codec

    def __init__(self, settings: Settings):
        self._settings, options = settings, {}
        if settings.target.lower().startswith("https://"):
            options["verify"] = (settings.tls or Tls()).context()
        options["base_url"] = settings.target.rstrip("/")
        # `fetch` limits the time of a call.
        self._client = httpx.AsyncClient(limits=_POOL, timeout=None, **options)

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call, as `RestTransport.send`."""
        encoded = rest_codec.encode(call, self._settings.target)
        return encoded.decode(*await self.fetch(encoded, timeout_s))

    async def fetch(self, encoded: EncodedCall, timeout_s: float) -> Response:
        """Returns the response of the server.

        Raises:
            PredictError: There is no response in time, or it is too large.
        """
        start_s = time.monotonic()
        try:
            return await asyncio.wait_for(self._fetch(encoded), timeout_s)
        except asyncio.TimeoutError:
            error = timeout_error(self._settings.target, self._settings.timeout_s)
            raise error from None
        except httpx.DecodingError as error:
            raise response_error(self._settings.target, str(error)) from None
        except (httpx.TransportError, OSError) as error:
            remaining_s = timeout_s - (time.monotonic() - start_s)
            cause = await self._cause(error, remaining_s)
            text = _chain_text(error)
            raise connection_error(cause, self._settings.target, text) from None

    async def _cause(self, error: Exception, limit_s: float) -> Cause:
        """Returns the cause of a failed connection, from the classes of the error.

        A port of another protocol has no class of its own; the diagnosis finds it.
        """
        cause = cause_of(error)
        if isinstance(error, _BROKEN) and cause is Cause.UNKNOWN:
            cause = Cause.CLOSED
        if cause in (Cause.CLOSED, Cause.HANDSHAKE, Cause.UNKNOWN):
            diagnosis = await find_cause_async(self._settings, limit_s)
            if diagnosis in (Cause.NO_TLS, Cause.NO_REST):
                return diagnosis
        return cause

    async def _fetch(self, encoded: EncodedCall) -> Response:
        request = _request(self._client, encoded, self._settings)
        response = await self._client.send(request, stream=True)
        body, max_bytes = bytearray(), self._settings.max_message_bytes
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise response_size_error(self._settings.target, max_bytes)
        finally:
            await response.aclose()
        retry_after = response.headers.get("retry-after")
        return response.status_code, retry_after, bytes(body)

    async def close(self) -> None:
        await self._client.aclose()


def _run_loop(loop: asyncio.AbstractEventLoop, transport: AsyncRestTransport) -> None:
    """Runs a loop until it is stopped, then cancels its tasks."""
    loop.run_forever()
    loop.run_until_complete(_cancel(transport, asyncio.all_tasks(loop)))
    # httpx leaves generators open if a response cannot be decompressed.
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _cancel(transport: AsyncRestTransport, tasks: set[asyncio.Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await transport.close()


def _chain_text(error: BaseException) -> str:
    """Returns the texts of an error and of its causes."""
    texts = []
    while error is not None:
        text = f"{type(error).__name__} {error}".strip()
        texts += [text] * (text not in texts)
        error = error.__cause__ or error.__context__
    return "; ".join(texts)


def _request(client, encoded: EncodedCall, settings: Settings) -> httpx.Request:
    name = settings.tls.server_name if settings.tls else ""
    return client.build_request(
        encoded.method,
        encoded.path,
        content=encoded.content,
        headers={"content-type": "application/json"} if encoded.content else {},
        extensions={"sni_hostname": name} if name else {},
    )
