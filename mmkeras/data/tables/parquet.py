"""Tables of Parquet files."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmkeras.data.tables.arrow import (
    arrow_errors,
    class_names,
    is_embedded,
    iter_batches,
)
from mmkeras.data.tables.table import Record, Table, clean_columns, hash_files
from mmkeras.errors import UserError, format_names
from mmkeras.files import atomic_path

_BATCH_ROWS = 256  # of images of some 100 KB: 25 MB


def open_parquet(
    name: str,
    files: Sequence[str | bytes],
    folder: str,
    cache_dir: Path,
    note: str = "",
) -> Table:
    """Returns the table of one or several Parquet files with the same columns.

    If columns have bytes or vectors, its `records` first copies the columns that are
    used to an Arrow file in `cache_dir`, from which single cells are read.

    Args:
        files: Paths, or the bytes of remote files.

    Raises:
        UserError: A file is broken, or columns differ or have the same name.
    """
    with arrow_errors(name, "Parquet"):
        schema, rows = _schema(name, files)
    raw = dict(zip(schema.names, clean_columns(name, schema.names), strict=True))
    classes = class_names(schema=schema)

    def read(used) -> Iterator[Record]:
        import pyarrow as pa

        columns = {key: column for key, column in raw.items() if column in used}
        if not columns:
            yield from ((number, {}) for number in range(rows))
            return
        fields = pa.schema([schema.field(key) for key in columns])
        types = [field.type for field in fields if field.name not in classes]
        path = ""
        with arrow_errors(name, "Parquet"):
            if any(map(is_embedded, types)):
                path = _arrow_file(files, fields, cache_dir)
            batches = read_stream(path) if path else _batches(files, fields)
            yield from iter_batches(batches, columns, classes, path)

    return Table(
        name=name,
        folder=folder,
        columns=tuple(raw.values()),
        note=note,
        read=read,
        hash_content=lambda: _hash_files(files),
    )


def read_stream(path: str) -> Iterator:
    """Yields the batches of an Arrow IPC stream, which are mapped into memory."""
    import pyarrow as pa

    with pa.memory_map(path) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _schema(name, files):
    """Returns the schema of the first file, and the rows of all, after a comparison."""
    schemas, rows = [], 0
    for file in files:
        with _open(file) as parquet:
            schemas.append(parquet.schema_arrow)
            rows += parquet.metadata.num_rows
    for file, schema in zip(files, schemas, strict=True):
        if different := set(schema.names) ^ set(schemas[0].names):
            pair = [os.path.basename(path) for path in (file, files[0])]
            columns = format_names(sorted(different))
            raise UserError(
                f"{name}: {format_names(pair)} do not both have {columns}. Keep files "
                "with the same columns."
            )
    return schemas[0], rows


def _open(file):
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(file) if isinstance(file, bytes) else file)


def _batches(files, schema):
    """Yields the batches of the columns of a schema."""
    import pyarrow as pa

    columns = schema.names
    for file in files:
        with _open(file) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns):
                table = pa.Table.from_batches([batch]).select(columns)
                yield from table.cast(schema).to_batches()


def _arrow_file(files, schema, cache_dir) -> str:
    """Writes an Arrow file with the columns of a schema and returns its path.

    Uses an existing one. It is a stream, since each batch may have its own dictionary.
    """
    import pyarrow as pa

    digest = hashlib.sha256(repr((_hash_files(files), schema.names)).encode())
    path = cache_dir.absolute() / "tables" / f"{digest.hexdigest()[:32]}.arrow"
    if path.exists():
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp_path, pa.OSFile(str(tmp_path), "wb") as file:
        with pa.ipc.new_stream(file, schema) as writer:
            for batch in _batches(files, schema):
                writer.write_batch(batch)
    return str(path)


def _hash_files(files):
    if isinstance(files[0], bytes):
        return hashlib.sha256(b"".join(files)).hexdigest()
    return hash_files(os.path.abspath(file) for file in files)
