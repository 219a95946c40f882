"""Tables of folders: one subfolder per class, with images or audio."""

import os
from collections.abc import Iterator
from functools import cache

from mmkeras.data.tables.table import Record, Table, hash_files
from mmkeras.errors import UserError, format_names
from mmkeras.schema import LABEL, LABEL_SEPARATOR, SPLIT, SPLIT_NAMES


@cache
def _types() -> dict[str, str]:
    """Returns suffix -> type of the column that files with it make."""
    from mmkeras.modalities.types import TYPES  # needs NumPy, which other tables do not

    return {end: kind.type for kind in TYPES.values() for end in kind.suffixes}


def open_class_folders(folder: str) -> Table | None:
    """Returns the table of a folder with a subfolder per class, or None.

    Folders of splits (train, val, test) may be above those of the classes. Links to a
    folder above them are not followed.

    Raises:
        UserError: The folder has images and audio, or folders of splits and of classes
            side by side; or "|" is in the name of a class.
    """
    has_splits, note = _find_splits(folder)
    first, others = {}, 0
    for _, label, path in _files(folder, has_splits):
        modality = _modality(path)
        others += not modality
        if modality and LABEL_SEPARATOR in label:
            raise UserError(
                f"The folder '{label}' in {folder} would be a class, and "
                f"'{LABEL_SEPARATOR}' separates classes. Rename it."
            )
        if modality:
            first.setdefault(modality, path)
    notes = [note] if note else []
    if others:
        notes.append(f"skipped files that are no images or audio: {others}")
    if count := _count_outside(folder, has_splits):
        notes.append(f"skipped files outside of the folders of classes: {count}")
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

    return Table(
        name=folder,
        folder=folder,
        columns=columns,
        note="; ".join(notes),
        read=read,
        hash_content=hash_content,
        has_content_hash=False,
    )


def _modality(path):
    return _types().get(os.path.splitext(path)[1].lower(), "")


def _names(folder, is_folder):
    """Returns the sorted names of the folders or files that are not hidden."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith((".", "__MACOSX"))
            and entry.is_dir() == is_folder
        )


def _find_splits(folder) -> tuple[bool, str]:
    """Returns whether the subfolders are splits, and a note if only their names are.

    Raises:
        UserError: Some are splits with a folder per class, and others are not.
    """
    names = _folders_of_media(folder)
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    nested = [n for n in splits if _folders_of_media(os.path.join(folder, n))]
    others = [name for name in names if name not in nested]
    if nested and others:
        raise UserError(
            f"{folder} has folders of splits with a subfolder per class "
            f"({format_names(nested)}), and beside them {format_names(others)}. Give "
            "each split a subfolder per class, such as train/cat, and move other "
            "folders elsewhere."
        )
    if splits and not nested:
        text = f"folders named like splits are classes: {format_names(splits)}"
        return False, text
    return bool(nested), ""


def _folders_of_media(folder):
    """Returns the names of the subfolders with images or audio, at any depth."""
    return [
        name
        for name in _names(folder, True)
        if any(map(_modality, _below(folder, name, [os.path.realpath(folder)])))
    ]


def _count_outside(folder, has_splits):
    """Returns the number of images and audio that are in no folder of a class."""
    splits = _names(folder, True) if has_splits else []
    folders = [folder, *(os.path.join(folder, split) for split in splits)]
    return sum(bool(_modality(n)) for path in folders for n in _names(path, False))


def _files(folder, has_splits) -> Iterator[tuple[str, str, str]]:
    """Yields (split, class, path in the folder) in sorted order."""
    parents = [os.path.realpath(folder)]
    for split in _names(folder, True) if has_splits else [""]:
        for label in _names(os.path.join(folder, split), True):
            for path in _below(folder, os.path.join(split, label), parents):
                yield split, label, path


def _below(folder, path, parents) -> Iterator[str]:
    """Yields the files at any depth; `parents` are real paths of folders above."""
    full_path = os.path.join(folder, path)
    real_path = os.path.realpath(full_path)
    if any(os.path.commonpath([parent, real_path]) == real_path for parent in parents):
        return  # a link to a folder above, which would never end
    for name in _names(full_path, False):
        yield os.path.join(path, name)
    for name in _names(full_path, True):
        yield from _below(folder, os.path.join(path, name), [*parents, real_path])
