"""Blocking client of one model, for any number of threads."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import tenacity

from serving.client.errors import PredictError, closed_error, timeout_error
from serving.client.inputs import Row, Value, list_columns, prepare_row
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction, warn_caller
from serving.client.protocol import ClientProtocol, Flow
from serving.client.retry import policy
from serving.client.row_batch import RowBatch, batches, check_stream
from serving.client.session import CallSession
from serving.client.settings import GRPC, Settings

_POLL_S = 0.5  # pause between looks for signals


class Client:
    """Blocking client of one model, over one connection that is kept.

    Example:
        with Client("localhost:8500", model="mmkeras") as client:
            prediction = client.predict(image="digit.png", text="a phrase", price=3.5)
            print(prediction.label, prediction.score)
    """

    def __init__(self, target: str, **settings: Any):
        """Opens no connection yet.

        Args:
            target: HOST:PORT for gRPC, http://HOST:PORT or https://HOST:PORT for REST.
            **settings: Other fields of `Settings`: model, version, label, timeout_s,
                retries, tls, max_message_bytes, gzip, limits.

        Raises:
            UserError: A setting is not possible.
        """
        self.settings = Settings(target=target, **settings)
        if self.settings.transport == GRPC:
            from serving.client.grpc_transport import GrpcTransport as Transport
        else:
            from serving.client.rest_transport import RestTransport as Transport
        self._transport = Transport(self.settings)
        self._protocol = ClientProtocol(self.settings, self._transport.codec)
        self._is_closed = threading.Event()
        self._describe_lock = threading.Lock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; pending calls fail without a retry."""
        self._is_closed.set()
        self._transport.close()

    def describe(self) -> ModelInfo:
        """Returns the columns and classes of the model; the first call sends a request.

        Raises:
            UserError: The model is not an export of mmkeras.
            PredictError: The server refuses the call, or cannot be reached.
        """
        return self._model_for([], self._deadline_s())

    def predict(self, /, **values: Value) -> Prediction:
        """Returns the prediction for one row; columns that are left out are absent.

        Warns of a faulty file that is read nevertheless.

        Args:
            **values: Column -> its value. For files: a path, the content, a PIL image,
                pixels (H, W, C) of uint8, or a vector of any numbers. For other columns
                of strings: a str; its path as a `Path`; or a vector. For numbers: a
                number. None, "" and NaN are absent.

        Raises:
            UserError: A value cannot be used, or the model has no such column.
            PredictError: The server refuses the call, or cannot be reached.

        Example:
            client.predict(title="a cat", photo="cat.jpg", price=3.5)
        """
        predictions = self._predict_rows([values])
        warn_caller(predictions)
        return predictions[0]

    def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """Returns one prediction per row, by as few requests as their size allows.

        A row is column -> value, as for `predict`, with one warning for all rows.

        Raises:
            UserError, PredictError: As `predict`.
        """
        predictions = self._predict_rows(rows)
        warn_caller(predictions)
        return predictions

    def _predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        if not rows:
            return []
        deadline_s = self._deadline_s()
        model = self._model_for(rows, deadline_s)
        prepared = [prepare_row(row, model, self.settings, strict=True) for row in rows]
        return self._run(self._protocol.predict(prepared), deadline_s)

    def stream(
        self, rows: Iterable[Row], *, in_flight: int = 8, batch: int = 1
    ) -> Iterator[Prediction]:
        """Yields one prediction per row, in the order of the rows.

        There are `batch` rows per request and up to `in_flight` concurrent requests. An
        unreadable file is sent as absent; `status` and `problems` report it, and
        `notes` a faulty file that is read nevertheless. A row that is too large to send
        has no label. At most 2 * in_flight * batch rows are read ahead.

        Raises:
            UserError, PredictError: As `predict`, after the predictions before it.
        """
        check_stream(in_flight, batch)
        return self._stream(rows, in_flight, batch)

    def _stream(self, rows, in_flight, batch_rows) -> Iterator[Prediction]:
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="predict")
        futures, errors = deque(), []
        try:
            for batch in self._batches(rows, batch_rows, errors):
                futures.append(pool.submit(self._predict_batch, batch))
                while futures and (len(futures) >= 2 * in_flight or futures[0].done()):
                    yield from _result(futures.popleft())
            while futures:
                yield from _result(futures.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if errors:
            raise errors[0]

    def _batches(self, rows, size, errors) -> Iterator[list[Row]]:
        """Yields batches to send; an error ends them and is added to `errors`."""
        try:
            for batch in batches(rows, size, errors):
                self.describe()  # once, before the threads need it
                yield batch
        except Exception as error:
            errors.append(error)

    def _predict_batch(self, rows: Sequence[Row]) -> list[Prediction]:
        model = self._model_for(rows, self._deadline_s())
        batch = RowBatch(rows, model, self.settings, self._protocol)
        # In a stream the deadline does not include the reading of the files.
        flow = self._protocol.predict(batch.prepared)
        return batch.merge(self._run(flow, self._deadline_s()))

    def _deadline_s(self) -> float:
        return time.monotonic() + self.settings.timeout_s

    def _model_for(self, rows: Sequence[Row], deadline_s: float) -> ModelInfo:
        # One thread describes the model; the others wait until their own deadlines.
        wait_s = max(deadline_s - time.monotonic(), 0.001)
        if not self._describe_lock.acquire(timeout=wait_s):
            raise timeout_error(self.settings.target, self.settings.timeout_s)
        try:
            flow = self._protocol.describe(list_columns(rows))
            return self._run(flow, deadline_s)
        finally:
            self._describe_lock.release()

    def _run(self, flow: Flow[Any], deadline_s: float) -> Any:
        """Sends each call of a flow; returns the result of the flow."""
        session = CallSession(flow, deadline_s)
        while session.call is not None:
            retrying = tenacity.Retrying(
                **policy(self._protocol.max_retries, session.remaining_s()),
                sleep=tenacity.sleep_using_event(self._is_closed),
            )
            try:
                reply = retrying(self._send, session)
            except PredictError as error:
                session.fail(error, retrying.statistics["attempt_number"])
            else:
                session.reply(reply)
        return session.result

    def _send(self, session: CallSession) -> Any:
        try:
            if not self._is_closed.is_set():
                return self._transport.send(session.call, session.remaining_s())
        except Exception:  # each library has its own for a closed connection
            if not self._is_closed.is_set():
                raise
        raise closed_error(self.settings.target)


def _result(future: Future) -> Any:
    """Waits for a result or for Ctrl-C.

    Polls, because a signal just before the wait, or for another thread, does not end
    the wait.
    """
    while not wait([future], _POLL_S).done:
        pass
    return future.result()
