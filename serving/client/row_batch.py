"""Batches of rows in a stream; a row that cannot be sent does not stop the others."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from mmkeras.config.validation import check
from serving.client.inputs import Row, prepare_row
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction, rejected_prediction
from serving.client.protocol import ClientProtocol
from serving.client.requests import PreparedRow
from serving.client.settings import Settings

T = TypeVar("T")


class RowBatch:
    """Rows of one request, read and transcoded; `prepared` are those to send."""

    def __init__(
        self,
        rows: Sequence[Row],
        model: ModelInfo,
        settings: Settings,
        protocol: ClientProtocol,
    ):
        """Reads the files of the rows.

        Raises:
            UserError: A name or a type is wrong, as in `prepare_row`.
        """
        self.prepared: list[PreparedRow] = []
        self._rejected: list[Prediction | None] = []
        for row in rows:
            prepared = prepare_row(row, model, settings, strict=False)
            reason = protocol.size_problem(prepared)
            self._rejected.append(rejected_prediction(reason) if reason else None)
            if not reason:
                self.prepared.append(prepared)

    def merge(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Returns one prediction per row, from those for `prepared`."""
        iterator = iter(predictions)
        return [rejected or next(iterator) for rejected in self._rejected]


def check_stream(in_flight: int, batch: int) -> None:
    """Raises a UserError for an impossible number of requests or of rows."""
    check(1 <= in_flight <= 1024, "in_flight", in_flight, "from 1 to 1024")
    check(1 <= batch <= 65_536, "batch", batch, "from 1 to 65536")


def batches(rows: Iterable[T], size: int, errors: list[Exception]) -> Iterator[list[T]]:
    """Yields lists of up to `size` rows, reading no further than needed.

    An error of `rows` ends them after the rows before it, and is added to `errors`.
    """
    iterator, batch = iter(rows), None
    while batch is None or len(batch) == size:
        batch = []
        try:
            for row in islice(iterator, size):
                batch.append(row)
        except Exception as error:
            errors.append(error)
        if batch:
            yield batch
