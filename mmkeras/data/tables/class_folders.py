"""Tables of folders: one subfolder per class, with images or audio."""

import os
from collections.abc import Iterator
from functools import cache

from mmkeras.data.tables.table import Record, Table, hash_files
from mmkeras.errors import UserError
from mmkeras.schema import LABEL, SPLIT, SPLIT_NAMES


@cache
def _types() -> dict[str, str]:
    """Returns suffix -> type of the column that files with it make."""
    from mmkeras.modalities.types import TYPES  # needs NumPy, which other tables do not

    return {end: kind.type for kind in TYPES.values() for end in kind.suffixes}


def open_class_folders(folder: str) -> Table | None:
    """Returns the table of a folder with a subfolder per class, or None.

    Folders of splits (train, val, test) may be above those of the classes.

    Raises:
        UserError: The folder has images and audio.
    """
    has_splits = _has_splits(folder)
    first, others = {}, 0
    for _, _, path in _files(folder, has_splits):
        modality = _modality(path)
        others += not modality
        if modality:
            first.setdefault(modality, path)
    if len(first) > 1:
        kinds = " and ".join(f"{kind} ('{path}')" for kind, path in first.items())
        raise UserError(
            f"{folder} has files of several types: {kinds}. Give a folder with one of "
            "them, or write a CSV with a column for each."
        )
    if not first:
        return None
    (modality,) = first
    columns = (modality, LABEL, *([SPLIT] if has_splits else []))

    def read(used) -> Iterator[Record]:
        number = 0
        for split, label, path in _files(folder, has_splits):
            if _modality(path):
                row = {modality: path, LABEL: label, SPLIT: split}
                yield number, {column: row[column] for column in used}
                number += 1

    def hash_content():
        paths = (path for _, _, path in _files(folder, has_splits))
        return hash_files(paths, folder)

    note = f"skipped files that are no images or audio: {others}" if others else ""
    return Table(
        name=folder,
        folder=folder,
        columns=columns,
        note=note,
        read=read,
        hash_content=hash_content,
    )


def _modality(path):
    return _types().get(os.path.splitext(path)[1].lower(), "")


def _names(folder, is_folder):
    """Returns the sorted names of the folders or files that are not hidden."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir() == is_folder
        )


def _has_splits(folder):
    """Whether all subfolders are named like splits, and have subfolders."""
    names = _names(folder, True)
    return bool(names) and all(
        name.lower() in SPLIT_NAMES and _names(os.path.join(folder, name), True)
        for name in names
    )


def _files(folder, has_splits) -> Iterator[tuple[str, str, str]]:
    """Yields (split, class, path in the folder) in sorted order."""
    for split in _names(folder, True) if has_splits else [""]:
        for label in _names(os.path.join(folder, split), True):
            for path in _below(folder, os.path.join(split, label)):
                yield split, label, path


def _below(folder, path):
    full_path = os.path.join(folder, path)
    for name in _names(full_path, False):
        yield os.path.join(path, name)
    for name in _names(full_path, True):
        yield from _below(folder, os.path.join(path, name))
