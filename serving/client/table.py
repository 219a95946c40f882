"""Prediction of a table of any size, row by row, in bounded memory."""

import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mmkeras.cli import print_warnings
from mmkeras.config import TableConfig
from mmkeras.data.table import Row, check_columns, iter_rows, warn_absent
from mmkeras.errors import Examples, UserError, warn_of_faults
from mmkeras.modalities.column import FileReader
from mmkeras.schema import UNREADABLE
from serving.client.client import Client
from serving.client.columns import cell_value
from serving.client.model_info import ModelInfo
from serving.client.output_writer import full_status
from serving.client.prediction import Prediction
from serving.client.requests import Value


@dataclass(kw_only=True)
class Totals:
    """Counts of the rows written."""

    rows: int = 0
    unreadable: int = 0  # rows with something unreadable
    present: set[str] = field(default_factory=set)  # columns that a row has
    faults: Examples = field(default_factory=Examples)  # of files that were read


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file with the columns of a model, as for `mmkeras.predict`.

    Paths in its cells are relative to its folder.

    Attributes:
        roles: Names of the columns of ids and labels.
        names: Column of the model -> its name in the table, if that is another one.
        text_files: Whether the cells of texts are paths, too.
    """

    path: Path
    roles: TableConfig = field(default_factory=TableConfig)
    names: Mapping[str, str] = field(default_factory=dict)
    text_files: bool = False

    def check(self, model: ModelInfo) -> None:
        """Checks that the table can be read, and has all columns of the model.

        Raises:
            UserError: A column is missing, or the table cannot be read.
        """
        remedy = "give its name by --rename COLUMN=NAME, or add an empty one"
        with _flag_names():
            check_columns(self.path, self._columns(model), remedy)
            next(self.rows(model), None)

    def warn(self, model: ModelInfo, totals: Totals) -> None:
        """Warns of faulty files and of columns that no row has, on stderr."""
        absent = warn_absent(self._columns(model), totals.present)
        print_warnings([*absent, *warn_of_faults(totals.faults)])

    def rows(self, model: ModelInfo) -> Iterator[Row]:
        """Yields the rows as they are read.

        Raises:
            UserError: The table cannot be read.
        """
        with _flag_names():
            columns = self._columns(model)
            yield from iter_rows(self.path, self.roles, columns, labeled=False)

    def _columns(self, model: ModelInfo) -> list[str]:
        return [self.names.get(name, name) for name in model.columns]

    def inputs(self, row: Row, model: ModelInfo) -> dict[str, Value]:
        """Returns column -> value for the client."""
        files = FileReader(self.path.parent)
        cells = ((n, row.cells[self.names.get(n, n)]) for n in model.columns)
        return {
            name: cell_value(cell, model.columns[name], self.text_files, files)
            for name, cell in cells
            if cell
        }


@contextmanager
def _flag_names() -> Iterator[None]:
    """Replaces names of settings in errors by the flags of this program."""
    try:
        yield
    except UserError as error:
        text = re.sub(r"\btable\.(\w+)_column", r"--\1-column", str(error))
        raise UserError(text) from None


def predict_table(
    client: Client,
    table: Table,
    write: Callable[[Row, Prediction], None],
    totals: Totals,
    *,
    in_flight: int,
    batch: int,
) -> None:
    """Predicts each row, and writes it as soon as all rows before it are written.

    Ctrl-C does not interrupt `write`. The totals count the rows written, also after an
    error. `in_flight` and `batch` are as for `Client.stream`.

    Raises:
        UserError, PredictError: As `Client.stream`.
    """
    pending: deque[Row] = deque()

    def rows():
        model = client.describe()
        for row in table.rows(model):
            totals.present |= row.present
            pending.append(row)
            yield table.inputs(row, model)

    for prediction in client.stream(rows(), in_flight=in_flight, batch=batch):
        row = pending.popleft()
        with _deferred_interrupt():
            write(row, prediction)
            totals.rows += 1
            totals.faults.add(f"line {row.line}: {n}" for n in prediction.notes)
            totals.unreadable += UNREADABLE in full_status(row, prediction)


@contextmanager
def _deferred_interrupt() -> Iterator[None]:
    """Defers Ctrl-C to the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = []
    handler = signal.signal(signal.SIGINT, lambda *_: signals.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if signals:
            raise KeyboardInterrupt
