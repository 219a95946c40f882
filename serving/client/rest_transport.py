"""REST: one pool of connections, kept; to wait for, or to await."""

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
    not_understood,
    too_large,
    too_late,
    unreached,
)
from serving.client.requests import Call, Reply
from serving.client.settings import Settings, Tls

_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=64)

# Errors of a connection that was open.
_CUT = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

Fetched: TypeAlias = tuple[int, str | None, bytes]


class RestTransport:
    """Sends calls and waits for the replies, from any thread.

    They are awaited in a thread of its own: httpx, where it waits by itself, bounds
    each read and not the whole, and what it waits for cannot be interrupted.
    """

    wire = rest_codec

    def __init__(self, settings: Settings):
        self._settings, self._door = settings, AsyncRestTransport(settings)
        self._lock, self._is_closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        # Also of a door that nobody closes.
        self._stop = weakref.finalize(
            self, self._loop.call_soon_threadsafe, self._loop.stop
        )
        arguments = (self._loop, self._door)
        self._thread = threading.Thread(target=_run, args=arguments, daemon=True)
        self._thread.start()

    def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call.

        Raises:
            PredictError: Refused, unreached, or not answered in time.
            RuntimeError, concurrent.futures.CancelledError: The door is closed.
        """
        sent = rest_codec.send(call, self._settings.target)
        with self._lock:
            if self._is_closed:
                raise RuntimeError("The door is closed.")
            fetched = asyncio.run_coroutine_threadsafe(
                self._door.fetch(sent, timeout_s), self._loop
            )
        try:
            return sent.read(*fetched.result())
        finally:
            fetched.cancel()  # after Ctrl-C; else it is done

    def close(self) -> None:
        """Ends the calls under way, at once."""
        with self._lock:
            self._is_closed = True
        self._stop()
        self._thread.join()


class AsyncRestTransport:
    """Sends calls and awaits the replies, in one loop."""

    wire = rest_codec

    def __init__(self, settings: Settings):
        self._settings = settings
        self._client = httpx.AsyncClient(**_options(settings))

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """As `RestDoor.send`."""
        sent = rest_codec.send(call, self._settings.target)
        return sent.read(*await self.fetch(sent, timeout_s))

    async def fetch(self, sent: rest_codec.EncodedCall, timeout_s: float) -> Fetched:
        """Returns (status, Retry-After, body).

        Raises:
            PredictError: Unreached, too large, or not there in time.
        """
        began_s = time.monotonic()
        try:
            return await asyncio.wait_for(self._fetch(sent), timeout_s)
        except asyncio.TimeoutError:
            raise too_late(self._settings.target, self._settings.timeout_s) from None
        except httpx.DecodingError as error:
            raise not_understood(self._settings.target, str(error)) from None
        except (httpx.TransportError, OSError) as error:
            left_s = timeout_s - (time.monotonic() - began_s)
            cause = await self._cause(error, left_s)
            raise unreached(cause, self._settings.target, _words(error)) from None

    async def _cause(self, error: Exception, limit_s: float) -> Cause:
        """Returns the cause of a failed connection, from the classes of the error.

        A port of another protocol has no class of its own; the diagnosis finds it.
        """
        cause = cause_of(error)
        if isinstance(error, _CUT) and cause is Cause.UNKNOWN:
            cause = Cause.CLOSED
        if cause in (Cause.CLOSED, Cause.HANDSHAKE, Cause.UNKNOWN):
            other = await find_cause_async(self._settings, limit_s)
            if other in (Cause.NO_TLS, Cause.NO_REST):
                return other
        return cause

    async def _fetch(self, sent: rest_codec.EncodedCall) -> Fetched:
        request = _request(self._client, sent, self._settings)
        response = await self._client.send(request, stream=True)
        body, largest = bytearray(), self._settings.max_message_bytes
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > largest:
                    raise too_large(self._settings.target, largest)
        finally:
            await response.aclose()
        wait = response.headers.get("retry-after")
        return response.status_code, wait, bytes(body)

    async def close(self) -> None:
        await self._client.aclose()


def _run(loop: asyncio.AbstractEventLoop, door: AsyncRestTransport) -> None:
    """Runs a loop until it is stopped; ends what is still under way."""
    loop.run_forever()
    loop.run_until_complete(_ended(door, asyncio.all_tasks(loop)))
    # httpx leaves its generators open if an answer cannot be unpacked.
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _ended(door: AsyncRestTransport, tasks: set[asyncio.Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await door.close()


def _words(error: BaseException) -> str:
    """Returns what an error says, and what those say that it comes from."""
    words = []
    while error is not None:
        said = f"{type(error).__name__} {error}".strip()
        words += [said] * (said not in words)
        error = error.__cause__ or error.__context__
    return "; ".join(words)


def _options(settings: Settings) -> dict:
    options = {"base_url": settings.target.rstrip("/"), "limits": _CONNECTIONS}
    options["timeout"] = None  # `fetch` has its own, of the whole
    if settings.target.lower().startswith("https://"):
        options["verify"] = (settings.tls or Tls()).context()
    return options


def _request(client, sent, settings: Settings) -> httpx.Request:
    name = settings.tls.server_name if settings.tls else ""
    return client.build_request(
        sent.method,
        sent.path,
        content=sent.content,
        headers={"content-type": "application/json"} if sent.content else {},
        extensions={"sni_hostname": name} if name else {},
    )
