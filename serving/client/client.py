"""The client that waits for its answers; safe to use from several threads."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import tenacity

from serving.client.errors import PredictError, closed, too_late
from serving.client.inputs import Row, check_names, given, prepare
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction
from serving.client.protocol import ClientProtocol, Talk
from serving.client.retry import policy
from serving.client.row_batch import RowBatch, batches, check_flow
from serving.client.session import CallSession, remaining_s
from serving.client.settings import GRPC, Settings

if TYPE_CHECKING:
    import numpy as np

_LISTENS_S = 0.5  # to signals, between waits


class Client:
    """One model behind one server, over one connection that is kept.

    Attributes:
        settings: As they were given.
    """

    def __init__(self, target: str, **settings: Any):
        """Opens no connection yet.

        Args:
            target: HOST:PORT of gRPC, http://HOST:PORT or https://HOST:PORT of REST.
            **settings: The other fields of `Settings`: model, version, label,
                timeout_s, retries, tls, max_message_bytes, gzip, limits.

        Raises:
            UserError: A setting is not possible.
        """
        self.settings = Settings(target=target, **settings)
        if self.settings.door == GRPC:
            from serving.client.grpc_transport import GrpcTransport as Door
        else:
            from serving.client.rest_transport import RestTransport as Door
        self._door = Door(self.settings)
        self._talks = ClientProtocol(self.settings, Door.wire)
        self._closed = threading.Event()
        self._first = threading.Lock()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way fail, and none is sent again."""
        self._closed.set()
        self._door.close()

    def describe(self) -> ModelInfo:
        """Returns what the model takes and its classes, asking the server once.

        Raises:
            UserError: It is no model of mmkeras.
            PredictError: The server refuses, or cannot be reached.
        """
        return self._model_for([], self._ends_s())

    def predict(
        self,
        *,
        image: "str | bytes | os.PathLike | None" = None,
        text: "str | bytes | os.PathLike | np.ndarray | None" = None,
        audio: "str | bytes | os.PathLike | np.ndarray | None" = None,
    ) -> Prediction:
        """Returns the model's answer to one row; what is not given is absent.

        Args:
            image: Path, or the file's bytes.
            text: Text; or the path of a file of text, or of a .npy vector.
            audio: Path, or the file's bytes; or a vector.

        Raises:
            UserError: What is given cannot be read, or the model does not take it.
            PredictError: The server refuses, or cannot be reached.
        """
        (answer,) = self.predict_rows([{"image": image, "text": text, "audio": audio}])
        return answer

    def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """Returns an answer a row, by one request, or more where one is too large.

        Args:
            rows: Modality -> value, as `predict` takes it.

        Raises:
            UserError, PredictError: As `predict`.
        """
        if not rows:
            return []
        ends_s = self._ends_s()
        model = self._model_for(rows, ends_s)
        for row in rows:
            check_names(row, model.modalities, self.settings.model)
        ready = [prepare(row, self.settings.limits, strict=True) for row in rows]
        return self._run(self._talks.ask(ready), ends_s)

    def stream(
        self, rows: Iterable[Row], *, in_flight: int = 8, batch: int = 1
    ) -> Iterator[Prediction]:
        """Yields an answer a row, in the order of the rows.

        A row of which something cannot be read is answered from what is left of it,
        and says so in `status` and `problems`; so does one that is too large to send,
        which has no label. No more than 2 * in_flight * batch rows are read ahead.

        Args:
            rows: Modality -> value, as `predict` takes it; any number of them.
            in_flight: Requests under way at a time.
            batch: Rows in one request.

        Raises:
            UserError, PredictError: As `predict`; the answers before it have come.
        """
        check_flow(in_flight, batch)
        return self._stream(rows, in_flight, batch)

    def _stream(self, rows, in_flight, batch) -> Iterator[Prediction]:
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="predict")
        waiting, failed = deque(), []
        try:
            for part in self._parts(rows, batch, failed):
                waiting.append(pool.submit(self._answers, part))
                while waiting and (len(waiting) >= 2 * in_flight or waiting[0].done()):
                    yield from _result(waiting.popleft())
            while waiting:
                yield from _result(waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if failed:
            raise failed[0]

    def _parts(self, rows, batch, failed) -> Iterator[list[Row]]:
        """Yields rows to send; an error ends them, and waits for their answers."""
        try:
            for part in batches(rows, batch):
                self.describe()  # before the threads do, where it fails at once
                yield part
        except Exception as error:
            failed.append(error)

    def _answers(self, rows: Sequence[Row]) -> list[Prediction]:
        model = self._model_for(rows, self._ends_s())
        part = RowBatch(rows, model, self.settings, self._talks)
        # Of a stream, reading the files is no part of the request's time.
        return part.merged(self._run(self._talks.ask(part.sendable), self._ends_s()))

    def _ends_s(self) -> float:
        return time.monotonic() + self.settings.timeout_s

    def _model_for(self, rows: Sequence[Row], ends_s: float) -> ModelInfo:
        # Threads that come together ask once; each waits for its own time only.
        if not self._first.acquire(timeout=remaining_s(ends_s)):
            raise too_late(self.settings.target, self.settings.timeout_s)
        try:
            return self._run(self._talks.describe(given(rows)), ends_s)
        finally:
            self._first.release()

    def _run(self, talk: Talk[Any], ends_s: float) -> Any:
        """Waits for the reply to each call of a talk."""
        exchange = CallSession(talk, ends_s)
        while exchange.call is not None:
            again = tenacity.Retrying(
                **policy(self._talks.retries, exchange.remaining_s()),
                sleep=tenacity.sleep_using_event(self._closed),
            )
            try:
                reply = again(self._send, exchange)
            except PredictError as error:
                exchange.fail(error, again.statistics["attempt_number"])
            else:
                exchange.reply(reply)
        return exchange.result

    def _send(self, exchange: CallSession) -> Any:
        try:
            if not self._closed.is_set():
                return self._door.send(exchange.call, exchange.remaining_s())
        except Exception:  # each library has others for what is closed under it
            if not self._closed.is_set():
                raise
        raise closed(self.settings.target)


def _result(future: Future) -> Any:
    """Waits for a result, and for Ctrl-C.

    Python is not woken by a signal that comes just before it waits, or to another of
    its threads.
    """
    while not wait([future], _LISTENS_S).done:
        pass
    return future.result()
