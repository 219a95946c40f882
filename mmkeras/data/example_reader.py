"""Reader of a row's cells: checks and decodes files, and makes the tf.Example."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.predictions_csv import unreadable_status
from mmkeras.data.table import Row, check_columns, iter_rows
from mmkeras.data.tables import Cell, Embedded, open_table
from mmkeras.errors import shorten
from mmkeras.modalities.column import Column, Content, FileReader
from mmkeras.modalities.columns import build_columns
from mmkeras.modalities.file import Unreadable
from mmkeras.schema import ID, LABEL, LABEL_SEPARATOR, SPLIT, STATUS, feature_name


@dataclass(frozen=True, kw_only=True)
class RowContent:
    """A row of the table and the content of its cells.

    Attributes:
        contents: Column -> its content, if it can be read.
        data: Column -> value that the graph decodes; that of an absent or broken one.
        broken: Column -> reason why it cannot be read.
    """

    row: Row
    contents: dict[str, Content]
    data: dict[str, bytes | float]
    broken: dict[str, str]

    @property
    def notes(self) -> tuple[str, ...]:
        """Faults of files that are read whole nevertheless."""
        return tuple(note for c in self.contents.values() for note in c.notes)

    @property
    def status(self) -> str:
        """Status of the unreadable columns, or ""."""
        return unreadable_status(self.broken)

    @property
    def faults(self) -> list[str]:
        """Notes with the line of the row."""
        return [f"{self.row.place}: {note}" for note in self.notes]


class RowReader:
    """Thread-safe reader that checks the cells of rows."""

    def __init__(
        self,
        folder: str | Path,
        config: Config,
        columns: Mapping[str, Column] | None = None,
    ):
        """Sets the base folder of relative paths, and the columns to read.

        `columns` are those of `config`; None builds them anew, with new decoders.
        """
        self.config = config
        self.columns = dict(columns or {c.name: c for c in build_columns(config)})
        self.files = FileReader(folder, config.table.max_file_mb)

    def read(self, row: Row) -> RowContent:
        """Reads the cells of a row; errors are in `broken`."""
        contents, broken = {}, {}
        for name, cell in row.cells.items():
            try:
                cell = cell.read() if isinstance(cell, Embedded) else cell
                if not cell:
                    continue
                content = self.columns[name].read(cell, self.files)
                if not self.columns[name].is_absent(content.data):
                    contents[name] = content
            except Unreadable as error:
                broken[name] = f"{name} {_shown(cell)}: {error}"
        absent = {name: self.columns[name].absent for name in row.cells}
        return RowContent(
            row=row,
            contents=contents,
            data=absent | {name: c.data for name, c in contents.items()},
            broken=broken,
        )


def _shown(cell: Cell) -> str:
    """Returns a cell for a message; content of files by its kind only."""
    return f"'{shorten(cell, 80)}'" if isinstance(cell, str) else "of the table"


def read_all(
    rows: Iterable[Row], reader: RowReader, workers: int
) -> Iterator[RowContent]:
    """Reads rows in threads (0 is one per core), in order, in bounded memory."""
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        futures = deque()
        for row in rows:
            futures.append(pool.submit(reader.read, row))
            if len(futures) > 4 * workers:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def unlabeled_rows(
    table: Path, config: Config, columns: Mapping[str, Column] | None = None
) -> tuple[RowReader, Iterator[Row]]:
    """Opens a table for a trained model; returns the reader and the rows.

    Labels are optional; `config` is the model's, `columns` as for `RowReader`.

    Raises:
        UserError: The table lacks columns of the model, or cannot be read.
    """
    folder = open_table(table, cache_dir=config.table.cache_dir or None).folder
    reader = RowReader(folder, config, columns)
    check_columns(table, list(reader.columns))
    rows = iter_rows(table, config.table, list(reader.columns), labeled=False)
    return reader, rows


def read_batches(
    table: Path,
    config: Config,
    rows: int,
    columns: Mapping[str, Column] | None = None,
) -> Iterator[list[RowContent]]:
    """Reads the rows of `unlabeled_rows` in threads, in batches of `rows`."""
    reader, table_rows = unlabeled_rows(table, config, columns)
    contents = read_all(table_rows, reader, config.table.workers)
    while batch := list(islice(contents, rows)):
        yield batch


def batch_data(
    columns: Mapping[str, Column], rows: Sequence[RowContent]
) -> dict[str, list[bytes | float]]:
    """Returns column -> value of each row, for columns that a row may lack."""
    return {n: [r.data.get(n, c.absent) for r in rows] for n, c in columns.items()}


def make_example(row: RowContent, split: str = "") -> tf.train.Example:
    """Returns the tf.Example of a row.

    It has one feature per present column, id, label and status, the split if given,
    and the metadata of the columns as integers or floats.
    """
    values = {}
    for column, content in row.contents.items():
        name = feature_name(column)
        values |= {f"{name}_{suffix}": x for suffix, x in content.metadata.items()}
    # After the metadata: a column may be named image_width_px.
    values |= {feature_name(name): part.data for name, part in row.contents.items()}
    values[ID] = row.row.id.encode()
    values[LABEL] = LABEL_SEPARATOR.join(row.row.labels).encode()
    values[STATUS] = row.status.encode()
    if split:
        values[SPLIT] = split.encode()
    return build_example(values)


def build_example(values: Mapping[str, bytes | int | float]) -> tf.train.Example:
    """Returns a tf.Example with one value per feature."""
    features = {name: _feature(value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _feature(value: bytes | int | float) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
