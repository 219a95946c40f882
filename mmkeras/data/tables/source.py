"""Opening of a table of any format."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkeras.data.file_kind import (
    HEAD_BYTES,
    SUPPORTED,
    is_json,
    is_parquet,
    other_kind,
)
from mmkeras.data.tables import arrow, class_folders, memory, saved_dataset
from mmkeras.data.tables.content import open_content
from mmkeras.data.tables.delimited_text import open_delimited_text
from mmkeras.data.tables.json_file import open_json
from mmkeras.data.tables.parquet import open_parquet
from mmkeras.data.tables.table import Table, table_errors
from mmkeras.errors import UserError
from mmkeras.files import default_cache_dir, is_remote


def open_table(source: Any, *, cache_dir: str | Path | None = None) -> Table:
    """Opens a table and reads the names of its columns.

    Args:
        source: Path or URI of a file, "-" for the standard input, a folder, a pandas
            DataFrame, a pyarrow.Table, a list of dictionaries, a dictionary of
            columns, or an opened table, which is returned.
        cache_dir: Folder for copies of Parquet columns with bytes or vectors; None is
            mmkeras.files.default_cache_dir().

    Raises:
        UserError: The source cannot be read, is of another type, or has no columns or
            several of one name.

    Example:
        for number, cells in open_table("rows.parquet").records():
            print(number, cells)
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        cache_dir = Path(cache_dir or default_cache_dir())
        with table_errors(path):
            return _open_path(path, cache_dir)
    if hasattr(source, "to_batches") and hasattr(source, "schema"):
        return arrow.open_arrow(source)
    if hasattr(source, "itertuples") and hasattr(source, "columns"):
        return memory.open_frame(source)
    if isinstance(source, Mapping):
        return memory.open_columns(source)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return memory.open_mappings(source)
    raise UserError(
        f"a table cannot be of type {type(source).__name__}. Give a path, a pandas "
        "DataFrame, a pyarrow.Table, a list of dictionaries or a dictionary of columns."
    )


def _open_path(path, cache_dir):
    if not is_remote(path) and os.path.isdir(path):
        return _open_folder(path, cache_dir)
    content = open_content(path)
    with content.open() as file:
        head = file.peek(HEAD_BYTES)
    if kind := other_kind(head):
        raise UserError(f"{path} is {kind}")
    if is_parquet(head):
        if content.packer:
            text = f"{path} is a compressed Parquet file. Unpack it first."
            raise UserError(text)
        files, folder = [content.raw], content.folder
        return open_parquet(path, files, folder, cache_dir, content.note)
    return open_json(content) if is_json(head) else open_delimited_text(content)


def _open_folder(path, cache_dir):
    if saved_dataset.is_saved_dataset(path):
        return saved_dataset.open_saved_dataset(path)
    names = sorted(name for name in os.listdir(path) if not name.startswith((".", "_")))
    files = [os.path.join(path, name) for name in names if name.endswith(".parquet")]
    if files:
        return open_parquet(path, files, path, cache_dir)
    if table := class_folders.open_class_folders(path):
        return table
    raise UserError(
        f"{path} is a folder without Parquet files, a saved Hugging Face dataset, or "
        f"subfolders with images or audio. Give the path of a table: {SUPPORTED}."
    )
