"""`AsyncClient` with the blocking methods of `Client`, for tests of both."""

import asyncio
import threading

from serving.client import AsyncClient


class BlockingAsyncClient:
    """Runs an `AsyncClient` in an event loop of a background thread."""

    def __init__(self, target, **settings):
        self._client = AsyncClient(target, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
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
        if not self._loop.is_closed():
            self._run(self._client.__aexit__(None, None, None))

    def stop(self):
        """Closes the client and its event loop."""
        self.close()
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)
