"""A table of any size through a served model: rows out as they come, in their order."""

import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmkeras.config import TableConfig
from mmkeras.data.table import Row, iter_rows, table_modalities
from mmkeras.errors import UserError
from mmkeras.files import join_path
from mmkeras.schema import TEXT, UNREADABLE
from serving.client.client import Client
from serving.client.model_info import ModelInfo
from serving.client.output_writer import full_status
from serving.client.prediction import Prediction


@dataclass(kw_only=True)
class Totals:
    """What has been written so far.

    Attributes:
        rows: Rows answered.
        unreadable: Those of them of which something could not be read.
    """

    rows: int = 0
    unreadable: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file with the modalities' columns, as `mmkeras.predict` takes it.

    Attributes:
        path: The file; paths in it are relative to its folder.
        columns: Names of the columns.
        text_files: Whether the text column names files.
    """

    path: Path
    columns: TableConfig
    text_files: bool = False

    def modalities(self, model: ModelInfo) -> tuple[str, ...]:
        """Returns what both the table and the model have.

        Raises:
            UserError: Nothing, or the table cannot be read.
        """
        with _flags_named():
            return table_modalities(self.path, self._wanted(model), labeled=False)

    def rows(self, model: ModelInfo) -> Iterator[Row]:
        """Yields the rows, read as they are taken.

        Raises:
            UserError: The table cannot be read.
        """
        with _flags_named():
            yield from iter_rows(self.path, self._wanted(model), labeled=False)

    def _wanted(self, model):
        return replace(self.columns, modalities=",".join(model.modalities))

    def sent(self, row: Row) -> dict[str, str | Path]:
        """Returns what the client is to send of a row."""
        return {m: self._value(m, cell) for m, cell in row.cells.items() if cell}

    def _value(self, modality, cell):
        if modality == TEXT and not self.text_files:
            return cell
        path = join_path(self.path.parent, cell)
        return Path(path) if modality == TEXT else path


@contextmanager
def _flags_named() -> Iterator[None]:
    """Names the columns' settings as the flags of this program."""
    try:
        yield
    except UserError as error:
        words = re.sub(r"\btable\.(\w+)_column", r"--\1-column", str(error))
        raise UserError(words) from None


def predict_table(
    client: Client,
    table: Table,
    write: Callable[[Row, Prediction], None],
    totals: Totals,
    *,
    in_flight: int,
    batch: int,
) -> None:
    """Has each row answered, and written as soon as it and all before it are.

    Args:
        client: Whom to ask.
        table: What to ask.
        write: Takes each row with its answer, and is not interrupted by Ctrl-C.
        totals: Counts what has been written, also where this ends with an error.
        in_flight: Requests under way at a time.
        batch: Rows in one request.

    Raises:
        UserError, PredictError: As `Client.stream`.
    """
    waiting: deque[Row] = deque()

    def rows():
        for row in table.rows(client.describe()):
            waiting.append(row)
            yield table.sent(row)

    for answer in client.stream(rows(), in_flight=in_flight, batch=batch):
        row = waiting.popleft()
        with _uninterrupted():
            write(row, answer)
            totals.rows += 1
            totals.unreadable += UNREADABLE in full_status(row, answer)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts Ctrl-C off until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    before = signal.signal(signal.SIGINT, lambda *_: held.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            raise KeyboardInterrupt
