"""Asyncio client of one model, for one event loop."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from typing import Any

import tenacity

from serving.client.errors import PredictError, closed_error
from serving.client.inputs import Row, Value, list_columns, prepare_row
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction, warn_caller
from serving.client.protocol import ClientProtocol, Flow
from serving.client.retry import policy
from serving.client.row_batch import RowBatch, batches, check_stream
from serving.client.session import CallSession
from serving.client.settings import GRPC, Settings


class AsyncClient:
    """Client with the methods of `Client`, as coroutines.

    Files are read and transcoded in threads.

    Example:
        async with AsyncClient("localhost:8500", model="mmkeras") as client:
            prediction = await client.predict(text="a phrase")
    """

    def __init__(self, target: str, **settings: Any):
        """Takes the arguments of `Client`; `async with` opens the connection.

        Raises:
            UserError: A setting is not possible.
        """
        self.settings = Settings(target=target, **settings)
        if self.settings.transport == GRPC:
            from serving.client.grpc_transport import AsyncGrpcTransport as Transport
        else:
            from serving.client.rest_transport import AsyncRestTransport as Transport
        self._open, self._transport, self._is_closed = Transport, None, False
        self._protocol = ClientProtocol(self.settings, Transport.codec)
        self._describe_lock: asyncio.Lock | None = None

    async def __aenter__(self) -> "AsyncClient":
        self._transport = self._open(self.settings)
        self._describe_lock, self._is_closed = asyncio.Lock(), False
        return self

    async def __aexit__(self, *_) -> None:
        self._is_closed = True
        await self._transport.close()

    async def describe(self) -> ModelInfo:
        """As `Client.describe`."""
        return await self._model_for([], self._deadline_s())

    async def predict(self, /, **values: Value) -> Prediction:
        """As `Client.predict`."""
        predictions = await self._predict_rows([values])
        warn_caller(predictions)
        return predictions[0]

    async def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """As `Client.predict_rows`."""
        predictions = await self._predict_rows(rows)
        warn_caller(predictions)
        return predictions

    async def _predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        if not rows:
            return []
        deadline_s, settings = self._deadline_s(), self.settings
        model = await self._model_for(rows, deadline_s)
        prepared = await asyncio.to_thread(
            lambda: [prepare_row(row, model, settings, strict=True) for row in rows]
        )
        return await self._run(self._protocol.predict(prepared), deadline_s)

    def stream(
        self,
        rows: Iterable[Row] | AsyncIterable[Row],
        *,
        in_flight: int = 8,
        batch: int = 1,
    ) -> AsyncIterator[Prediction]:
        """As `Client.stream`; `rows` may be an asynchronous iterable."""
        check_stream(in_flight, batch)
        return self._stream(rows, in_flight, batch)

    async def _stream(self, rows, in_flight, batch_rows) -> AsyncIterator[Prediction]:
        semaphore, tasks, errors = asyncio.Semaphore(in_flight), deque(), []
        try:
            async for batch in self._batches(rows, batch_rows, errors):
                task = asyncio.create_task(self._predict_batch(batch, semaphore))
                tasks.append(task)
                while tasks and (len(tasks) >= 2 * in_flight or tasks[0].done()):
                    for prediction in await tasks.popleft():
                        yield prediction
            while tasks:
                for prediction in await tasks.popleft():
                    yield prediction
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if errors:
            raise errors[0]

    async def _batches(self, rows, size, errors) -> AsyncIterator[list[Row]]:
        """Yields batches to send; an error ends them and is added to `errors`."""
        try:
            async for batch in _async_batches(rows, size, errors):
                await self.describe()  # once, before the tasks need it
                yield batch
        except Exception as error:
            errors.append(error)

    async def _predict_batch(self, rows: Sequence[Row], semaphore) -> list[Prediction]:
        async with semaphore:
            model = await self._model_for(rows, self._deadline_s())
            batch = await asyncio.to_thread(
                RowBatch, rows, model, self.settings, self._protocol
            )
            # In a stream the deadline does not include the reading of the files.
            flow = self._protocol.predict(batch.prepared)
            return batch.merge(await self._run(flow, self._deadline_s()))

    def _deadline_s(self) -> float:
        return time.monotonic() + self.settings.timeout_s

    async def _model_for(self, rows: Sequence[Row], deadline_s: float) -> ModelInfo:
        if self._describe_lock is None:
            raise RuntimeError("Open an AsyncClient by `async with`.")
        # One task describes the model. The lock is fair and earlier tasks have earlier
        # deadlines, so no task waits beyond its own.
        async with self._describe_lock:
            flow = self._protocol.describe(list_columns(rows))
            return await self._run(flow, deadline_s)

    async def _run(self, flow: Flow[Any], deadline_s: float) -> Any:
        """Sends each call of a flow; returns the result of the flow."""
        session = CallSession(flow, deadline_s)
        while session.call is not None:
            retrying = tenacity.AsyncRetrying(
                **policy(self._protocol.max_retries, session.remaining_s())
            )
            try:
                reply = await retrying(self._send, session)
            except PredictError as error:
                session.fail(error, retrying.statistics["attempt_number"])
            else:
                session.reply(reply)
        return session.result

    async def _send(self, session: CallSession) -> Any:
        try:
            if not self._is_closed:
                return await self._transport.send(session.call, session.remaining_s())
        except Exception:  # each library has its own for a closed connection
            if not self._is_closed:
                raise
        raise closed_error(self.settings.target)


async def _async_batches(rows, size, errors) -> AsyncIterator[list[Row]]:
    """Yields batches of `size` rows from an iterable or an async iterable."""
    if not isinstance(rows, AsyncIterable):
        for batch in batches(rows, size, errors):
            yield batch
        return
    batch = []
    try:
        async for row in rows:
            batch.append(row)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception as error:
        errors.append(error)
    if batch:
        yield batch
