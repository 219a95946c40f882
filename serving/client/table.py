"""Prediction of a table of any size, row by row, in bounded memory."""

import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mmkeras.cli import print_warnings
from mmkeras.config import TableConfig
from mmkeras.data.table import (
    Row,
    check_columns,
    iter_rows,
    model_columns,
    table_modalities,
    warn_absent,
)
from mmkeras.errors import Examples, UserError, warn_of_faults
from mmkeras.modalities.file import find_file
from mmkeras.schema import MODALITIES, TEXT, UNREADABLE
from serving.client.client import Client
from serving.client.model_info import ModelInfo
from serving.client.output_writer import full_status
from serving.client.prediction import Prediction


@dataclass(kw_only=True)
class Totals:
    """Counts of the rows written."""

    rows: int = 0
    unreadable: int = 0  # rows with something unreadable
    present: set[str] = field(default_factory=set)  # modalities that a row has
    faults: Examples = field(default_factory=Examples)  # of files that were read


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file with one column per modality, as for `mmkeras.predict`.

    Paths in its cells are relative to its folder. With `text_files` the cells of the
    text column are paths, too.
    """

    path: Path
    columns: TableConfig
    text_files: bool = False

    def check(self, model: ModelInfo) -> None:
        """Checks that the table can be read, and has all columns of the model.

        Raises:
            UserError: A column is missing, or named for a modality that the model
                lacks, or the table cannot be read.
        """
        for m in MODALITIES:
            column = getattr(self.columns, f"{m}_column")
            if column != m and m not in model.modalities:
                raise UserError(
                    f"--{m}-column {column}: the model takes no {m}; it takes "
                    f"{', '.join(model.modalities)}. Leave the flag out."
                )
        remedy = "give its name by --{}-column, or add an empty one"
        config = self._config(model)
        with _flag_names():
            check_columns(self.path, config, remedy)
            table_modalities(self.path, config, labeled=False)

    def warn(self, model: ModelInfo, totals: Totals) -> None:
        """Warns of faulty files and of modalities that no row has, on stderr."""
        absent = warn_absent(self._config(model), totals.present)
        print_warnings([*absent, *warn_of_faults(totals.faults)])

    def rows(self, model: ModelInfo) -> Iterator[Row]:
        """Yields the rows as they are read.

        Raises:
            UserError: The table cannot be read.
        """
        with _flag_names():
            yield from iter_rows(self.path, self._config(model), labeled=False)

    def _config(self, model):
        return model_columns(self.columns, model.modalities)

    def inputs(self, row: Row) -> dict[str, str | Path]:
        """Returns modality -> value for the client."""
        return {m: self._value(m, cell) for m, cell in row.cells.items() if cell}

    def _value(self, modality, cell):
        if modality == TEXT and not self.text_files:
            return cell
        path = find_file(self.path.parent, cell)
        return Path(path) if modality == TEXT else path


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
        for row in table.rows(client.describe()):
            totals.present |= row.present
            pending.append(row)
            yield table.inputs(row)

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
