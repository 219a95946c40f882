"""The client that awaits its answers; for one event loop."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import tenacity

from serving.client.errors import PredictError, closed
from serving.client.inputs import Row, check_names, given, prepare
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction
from serving.client.protocol import ClientProtocol, Talk
from serving.client.retry import policy
from serving.client.row_batch import RowBatch, batches, check_flow
from serving.client.session import CallSession
from serving.client.settings import GRPC, Settings

if TYPE_CHECKING:
    import numpy as np


class AsyncClient:
    """As `Client`, to be awaited; files are read and transcoded in threads."""

    def __init__(self, target: str, **settings: Any):
        """Takes what `Client` takes; opens its connection in `async with`.

        Raises:
            UserError: A setting is not possible.
        """
        self.settings = Settings(target=target, **settings)
        if self.settings.door == GRPC:
            from serving.client.grpc_transport import AsyncGrpcTransport as Door
        else:
            from serving.client.rest_transport import AsyncRestTransport as Door
        self._open, self._door, self._is_closed = Door, None, False
        self._talks = ClientProtocol(self.settings, Door.wire)
        self._first: asyncio.Lock | None = None

    async def __aenter__(self) -> "AsyncClient":
        self._door, self._first = self._open(self.settings), asyncio.Lock()
        self._is_closed = False
        return self

    async def __aexit__(self, *_) -> None:
        self._is_closed = True
        await self._door.close()

    async def describe(self) -> ModelInfo:
        """As `Client.describe`."""
        return await self._model_for([], self._ends_s())

    async def predict(
        self,
        *,
        image: "str | bytes | os.PathLike | None" = None,
        text: "str | bytes | os.PathLike | np.ndarray | None" = None,
        audio: "str | bytes | os.PathLike | np.ndarray | None" = None,
    ) -> Prediction:
        """As `Client.predict`."""
        rows = [{"image": image, "text": text, "audio": audio}]
        (answer,) = await self.predict_rows(rows)
        return answer

    async def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """As `Client.predict_rows`."""
        if not rows:
            return []
        ends_s, limits = self._ends_s(), self.settings.limits
        model = await self._model_for(rows, ends_s)
        for row in rows:
            check_names(row, model.modalities, self.settings.model)
        ready = await asyncio.to_thread(
            lambda: [prepare(row, limits, strict=True) for row in rows]
        )
        return await self._run(self._talks.ask(ready), ends_s)

    def stream(
        self,
        rows: Iterable[Row] | AsyncIterable[Row],
        *,
        in_flight: int = 8,
        batch: int = 1,
    ) -> AsyncIterator[Prediction]:
        """As `Client.stream`; `rows` may be asynchronous, too."""
        check_flow(in_flight, batch)
        return self._stream(rows, in_flight, batch)

    async def _stream(self, rows, in_flight, batch) -> AsyncIterator[Prediction]:
        gate, waiting, failed = asyncio.Semaphore(in_flight), deque(), []
        try:
            async for part in self._parts(rows, batch, failed):
                waiting.append(asyncio.create_task(self._answers(part, gate)))
                while waiting and (len(waiting) >= 2 * in_flight or waiting[0].done()):
                    for answer in await waiting.popleft():
                        yield answer
            while waiting:
                for answer in await waiting.popleft():
                    yield answer
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if failed:
            raise failed[0]

    async def _parts(self, rows, batch, failed) -> AsyncIterator[list[Row]]:
        """Yields rows to send; an error ends them, and waits for their answers."""
        try:
            async for part in _batches(rows, batch):
                await self.describe()  # before the tasks do, where it fails at once
                yield part
        except Exception as error:
            failed.append(error)

    async def _answers(self, rows: Sequence[Row], gate) -> list[Prediction]:
        async with gate:
            model = await self._model_for(rows, self._ends_s())
            part = await asyncio.to_thread(
                RowBatch, rows, model, self.settings, self._talks
            )
            talk = self._talks.ask(part.sendable)
            # Of a stream, reading the files is no part of the request's time.
            return part.merged(await self._run(talk, self._ends_s()))

    def _ends_s(self) -> float:
        return time.monotonic() + self.settings.timeout_s

    async def _model_for(self, rows: Sequence[Row], ends_s: float) -> ModelInfo:
        if self._first is None:
            raise RuntimeError("An AsyncClient is opened by `async with`.")
        # Tasks that come together ask once, in turn; nobody's turn comes after his own
        # deadline, as those of all before him are earlier.
        async with self._first:
            return await self._run(self._talks.describe(given(rows)), ends_s)

    async def _run(self, talk: Talk[Any], ends_s: float) -> Any:
        """Awaits the reply to each call of a talk."""
        exchange = CallSession(talk, ends_s)
        while exchange.call is not None:
            again = tenacity.AsyncRetrying(
                **policy(self._talks.retries, exchange.remaining_s())
            )
            try:
                reply = await again(self._send, exchange)
            except PredictError as error:
                exchange.fail(error, again.statistics["attempt_number"])
            else:
                exchange.reply(reply)
        return exchange.result

    async def _send(self, exchange: CallSession) -> Any:
        try:
            if not self._is_closed:
                return await self._door.send(exchange.call, exchange.remaining_s())
        except Exception:  # each library has others for what is closed under it
            if not self._is_closed:
                raise
        raise closed(self.settings.target)


async def _batches(rows, size) -> AsyncIterator[list[Row]]:
    if not isinstance(rows, AsyncIterable):
        for part in batches(rows, size):
            yield part
        return
    part = []
    try:
        async for row in rows:
            part.append(row)
            if len(part) == size:
                full, part = part, []
                yield full
    except Exception:
        if part:
            yield part
        raise
    if part:
        yield part
