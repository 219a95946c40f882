"""`AsyncClient` with the blocking methods of `Client`, for tests of both."""

import asyncio
import threading
from functools import cache

from serving.client import AsyncClient


class BlockingAsyncClient:
    """Runs an `AsyncClient` in the event loop of a background thread."""

    def __init__(self, target, **settings):
        self._client = AsyncClient(target, **settings)
        self._run(self._client.__aenter__())

    def predict(self, **row):
        return self._run(self._client.predict(**row))

    def predict_rows(self, rows):
        return self._run(self._client.predict_rows(rows))

    def stream(self, rows, **options):
        stream = self._client.stream(rows, **options)
        try:
            while True:
                try:
                    yield self._run(stream.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._run(stream.aclose())

    def close(self):
        self._run(self._client.__aexit__(None, None, None))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, _event_loop()).result(60)


@cache
def _event_loop():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop
