"""Tables of Parquet files."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from mmkeras.data.tables.arrow import (
    arrow_errors,
    class_names,
    is_embedded,
    iter_batches,
    scalar_cell,
)
from mmkeras.data.tables.table import Cell, Record, Table, clean_columns, hash_files
from mmkeras.errors import UserError, format_names, one_line
from mmkeras.files import atomic_path

_BATCH_ROWS = 256  # of images of some 100 KB: 25 MB
_SAMPLE_CELLS = 100  # with bytes or vectors, from which a column is recognised


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

    def read_sample(count) -> Iterator[Record]:
        import pyarrow as pa

        fields = [schema.field(key) for key in raw]
        large = [f for f in fields if f.name not in classes and is_embedded(f.type)]
        plain = pa.schema([f for f in fields if f not in large])
        columns = {field.name: raw[field.name] for field in plain}
        with arrow_errors(name, "Parquet"):
            heads = {raw[f.name]: _first_cells(files, f) for f in large}
            records = ((number, {}) for number in range(rows))
            if columns:
                records = iter_batches(_batches(files, plain), columns, classes)
            for number, row in islice(records, count):
                yield number, row | {c: next(cells, "") for c, cells in heads.items()}

    return Table(
        name=name,
        folder=folder,
        columns=tuple(raw.values()),
        note=note,
        read=read,
        read_sample=read_sample,
        hash_content=lambda: _hash_files(files),
        has_content_hash=False,
    )


def read_stream(path: str) -> Iterator:
    """Yields the batches of an Arrow IPC stream, which are mapped into memory."""
    import pyarrow as pa

    with pa.memory_map(path) as file, pa.ipc.open_stream(file) as reader:
        yield from reader


def _schema(name, files):
    """Returns the schema that all files can be read as, and the rows of all."""
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
    return _common_schema(schemas), rows


def _common_schema(schemas):
    """Returns the first schema, with types that hold the numbers of all."""
    import pyarrow as pa

    first, *others = schemas
    if all(first.equals(schema) for schema in others):
        return first  # also that of a file with several columns of one name
    fields = [
        field.with_type(
            _common_type([schema.field(field.name).type for schema in schemas])
        )
        for field in first
    ]
    return pa.schema(fields, metadata=first.metadata)


def _common_type(kinds):
    """Returns a type of fractions if one of numbers has them, else the first type."""
    import pyarrow as pa
    import pyarrow.types as types

    kinds = [kind for kind in kinds if not types.is_null(kind)] or kinds
    are_fractions = [types.is_floating(kind) for kind in kinds]
    are_integers = [types.is_integer(kind) for kind in kinds]
    if len(set(kinds)) == 1 or sum(are_fractions + are_integers) < len(kinds):
        return kinds[0]
    return pa.float64() if any(are_fractions) else pa.int64()


def _first_cells(files, field) -> Iterator[Cell]:
    """Yields the cells of a column with bytes or vectors until enough have content."""
    import pyarrow as pa

    count = 0
    for batch in _batches(files, pa.schema([field])):
        for scalar in batch.column(0):
            cell = scalar_cell(scalar)
            yield cell
            count += bool(cell)
            if count == _SAMPLE_CELLS:
                return


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
                table = pa.Table.from_batches([batch])
                arrays = [_cast(table.column(f.name), f, file) for f in schema]
                yield from pa.Table.from_arrays(arrays, schema=schema).to_batches()


def _cast(array, field, file):
    import pyarrow as pa

    if array.type == field.type:
        return array
    try:
        return array.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"{file}: column '{field.name}' is of type {array.type}, and of type "
            f"{field.type} in another file: {one_line(error, 200)}. Save all files "
            "with the same type."
        ) from None


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
