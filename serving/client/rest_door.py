"""REST: one pool of connections, kept; to wait for, or to await."""

import time

import httpx

from serving.client import rest_wire
from serving.client.calls import Call, Reply
from serving.client.errors import not_understood, too_late, unreached
from serving.client.settings import Settings, Tls

_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=64)


class RestDoor:
    """Sends calls and waits for the replies, from any thread."""

    wire = rest_wire

    def __init__(self, settings: Settings):
        self._settings = settings
        self._client = httpx.Client(**_options(settings))

    def send(self, call: Call, timeout_s: float) -> Reply:
        """Sends a call.

        Raises:
            PredictError: Refused, unreached, or not answered in time.
        """
        body = _Body(self._settings, timeout_s)
        sent = rest_wire.send(call, self._settings.target)
        try:
            request = _request(self._client, sent, self._settings, timeout_s)
            response = self._client.send(request, stream=True)
            try:
                for chunk in response.iter_bytes():
                    body.add(chunk)
            finally:
                response.close()
        except httpx.TimeoutException:
            raise too_late(self._settings.target, self._settings.timeout_s) from None
        except (httpx.TransportError, OSError) as error:
            raise unreached(_words(error), self._settings.target) from None
        return body.read(sent, response)

    def close(self) -> None:
        self._client.close()


class AsyncRestDoor:
    """Sends calls and awaits the replies, in the loop that it was made in."""

    wire = rest_wire

    def __init__(self, settings: Settings):
        self._settings = settings
        self._client = httpx.AsyncClient(**_options(settings))

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """As `RestDoor.send`."""
        body = _Body(self._settings, timeout_s)
        sent = rest_wire.send(call, self._settings.target)
        try:
            request = _request(self._client, sent, self._settings, timeout_s)
            response = await self._client.send(request, stream=True)
            try:
                async for chunk in response.aiter_bytes():
                    body.add(chunk)
            finally:
                await response.aclose()
        except httpx.TimeoutException:
            raise too_late(self._settings.target, self._settings.timeout_s) from None
        except (httpx.TransportError, OSError) as error:
            raise unreached(_words(error), self._settings.target) from None
        return body.read(sent, response)

    async def close(self) -> None:
        await self._client.aclose()


class _Body:
    """What has come of an answer; no more of it than allowed, and no longer.

    httpx's own timeout is that of each read, not of all.
    """

    def __init__(self, settings: Settings, timeout_s: float):
        self._settings = settings
        self._ends_s = time.monotonic() + timeout_s
        self._chunks, self._size = [], 0

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        largest = self._settings.max_message_bytes
        if self._size > largest:
            raise not_understood(self._settings.target, f"more than {largest} bytes")
        if time.monotonic() > self._ends_s:
            raise too_late(self._settings.target, self._settings.timeout_s)

    def read(self, sent: rest_wire.Sent, response: httpx.Response) -> Reply:
        wait = response.headers.get("retry-after")
        return sent.read(response.status_code, wait, b"".join(self._chunks))


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
    if settings.target.startswith("https://"):
        options["verify"] = (settings.tls or Tls()).context()
    return options


def _request(client, sent, settings: Settings, timeout_s: float) -> httpx.Request:
    name = settings.tls.server_name if settings.tls else ""
    return client.build_request(
        sent.method,
        sent.path,
        content=sent.content,
        headers={"content-type": "application/json"} if sent.content else {},
        timeout=timeout_s,
        extensions={"sni_hostname": name} if name else {},
    )
