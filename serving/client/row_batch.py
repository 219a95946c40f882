"""The rows that go out in one request; a row that cannot go has its answer already."""

from collections.abc import Iterable, Iterator, Sequence

from mmkeras.config import validation
from serving.client.inputs import PreparedRow, Row, check_names, prepare
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction, not_sent
from serving.client.protocol import ClientProtocol
from serving.client.settings import Settings


class RowBatch:
    """Rows in order, read and transcoded when it is made.

    Attributes:
        sendable: Those to send.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        model: ModelInfo,
        settings: Settings,
        talks: ClientProtocol,
    ):
        """Reads files; what cannot be read or sent stops no other row.

        Raises:
            UserError: A name or a type is wrong, as in `prepare`.
        """
        self.sendable: list[PreparedRow] = []
        self._unsent: dict[int, Prediction] = {}
        for i, row in enumerate(rows):
            check_names(row, model.modalities, settings.model)
            run_data = prepare(row, settings.limits, strict=False)
            if why := talks.too_large(run_data):
                self._unsent[i] = not_sent(why)
            else:
                self.sendable.append(run_data)
        self._rows = len(rows)

    def merged(self, answers: Sequence[Prediction]) -> list[Prediction]:
        """Returns an answer a row, of the answers to `sendable`."""
        found = iter(answers)
        return [
            self._unsent[i] if i in self._unsent else next(found)
            for i in range(self._rows)
        ]


def check_flow(in_flight: int, batch: int) -> None:
    """Checks how many requests may be under way, and how many rows one may have.

    Raises:
        UserError: One of them is below 1, or too many.
    """
    validation(1 <= in_flight <= 1024, "in_flight", in_flight, "from 1 to 1024")
    validation(1 <= batch <= 65_536, "batch", batch, "from 1 to 65536")


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Yields rows in lists, in order, reading no further than asked.

    Where reading them fails, what was read before it comes first.
    """
    part = []
    try:
        for row in rows:
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
