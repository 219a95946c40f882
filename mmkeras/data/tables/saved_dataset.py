"""Tables of Hugging Face datasets on disk, as `save_to_disk` writes them."""

import os
from collections.abc import Iterator

from mmkeras.data.tables.arrow import arrow_errors, class_names, iter_batches
from mmkeras.data.tables.parquet import read_stream
from mmkeras.data.tables.table import Record, Table, clean_columns, hash_files
from mmkeras.errors import UserError
from mmkeras.files import read_json
from mmkeras.schema import SPLIT

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_KIND = "a Hugging Face dataset"


def is_saved_dataset(folder: str) -> bool:
    """Whether a folder has a dataset of `save_to_disk`, with or without splits."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in (_STATE, _SPLITS))


def open_saved_dataset(folder: str) -> Table:
    """Returns the table of a dataset; one with splits gets a column `split`.

    Raises:
        UserError: Files are missing or broken, or columns have the same name.
    """
    splits = {"": folder}
    if os.path.isfile(os.path.join(folder, _SPLITS)):
        names = map(str, _read_list(folder, _SPLITS, "splits"))
        splits = {name: os.path.join(folder, name) for name in names}
    parts = {split: _files(path) for split, path in splits.items()}
    with arrow_errors(folder, _KIND):
        schemas = {split: _schema(files) for split, files in parts.items()}
    keys = list(dict.fromkeys(n for schema in schemas.values() for n in schema.names))
    raw = dict(zip(keys, clean_columns(folder, keys), strict=True))
    classes = {
        split: class_names(_read_features(path), schema)
        for (split, path), schema in zip(splits.items(), schemas.values(), strict=True)
    }
    has_split = "" not in splits and SPLIT not in raw.values()
    columns = (*raw.values(), *([SPLIT] if has_split else []))

    def read(used) -> Iterator[Record]:
        absent = dict.fromkeys(used, "")
        number = 0
        for split, files in parts.items():
            names = schemas[split].names
            selected = {k: c for k, c in raw.items() if c in used and k in names}
            extra = {SPLIT: split} if has_split and SPLIT in used else {}
            for file in files:
                for _, row in _rows(folder, file, selected, classes[split]):
                    yield number, row if isinstance(row, str) else absent | row | extra
                    number += 1

    paths = [
        os.path.relpath(file, folder) for files in parts.values() for file in files
    ]
    return Table(
        name=folder,
        folder=folder,
        columns=columns,
        read=read,
        hash_content=lambda: hash_files(paths, folder),
        has_content_hash=False,
    )


def _rows(name, file, columns, classes):
    with arrow_errors(name, _KIND):
        yield from iter_batches(read_stream(file), columns, classes, file)


def _files(folder):
    base = os.path.abspath(folder)  # references stay valid in another folder
    names = [
        file["filename"] if isinstance(file, dict) and "filename" in file else ""
        for file in _read_list(folder, _STATE, "_data_files")
    ]
    files = [os.path.join(base, str(name)) for name in names]
    if not files:
        raise UserError(f"{folder} has no rows. Save a dataset with at least one row.")
    for path in files:
        if not os.path.isfile(path):
            raise UserError(
                f"{path} is no file, and {os.path.join(folder, _STATE)} names it. Copy "
                "or save the dataset anew."
            )
    return files


def _read_features(folder):
    """Returns the features of a dataset, or None if they are only in its schema."""
    if not os.path.isfile(os.path.join(folder, _INFO)):
        return None
    features = _read_mapping(folder, _INFO).get("features")
    return features if isinstance(features, dict) else None


def _read_list(folder, file, key):
    values = _read_mapping(folder, file).get(key)
    if isinstance(values, list):
        return values
    raise UserError(
        f"{os.path.join(folder, file)} has no list '{key}', as save_to_disk writes it. "
        "Save the dataset anew."
    )


def _read_mapping(folder, file):
    try:
        values = read_json(folder, file)
    except ValueError as error:
        raise UserError(
            f"{os.path.join(folder, file)} is not JSON: {error}. Save the dataset anew."
        ) from None
    return values if isinstance(values, dict) else {}


def _schema(files):
    import pyarrow as pa

    with pa.memory_map(files[0]) as file, pa.ipc.open_stream(file) as reader:
        return reader.schema
