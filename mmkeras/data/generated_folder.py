"""Folder of a data set that is generated on the spot, written once and atomically."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mmkeras.errors import UserError
from mmkeras.files import atomic_folder


def generate_folder(
    folder: str | Path,
    stamp: Mapping[str, int],
    write: Callable[[Path], None],
    *,
    name: str,
    stamp_file: str,
) -> Path:
    """Writes a data set atomically, unless `folder` already has it; returns `folder`.

    Args:
        folder: Folder of the data set: absent, empty, or complete.
        stamp: Everything that determines the bytes: version, rows and seed.
        write: Writes all files of the data set to a folder.
        name: Name of the data set in errors, such as "demo data set".
        stamp_file: Name of the file with the stamp and the number of files.

    Raises:
        UserError: `folder` holds something else or cannot be written.

    Example:
        stamp = {"version": 1, "rows": 60, "seed": 0}
        generate_folder(folder, stamp, write, name="demo data set", stamp_file="a.json")
    """
    folder, stamp = Path(folder), dict(stamp)
    if _is_complete(folder, stamp, name, stamp_file):
        return folder
    try:
        with atomic_folder(folder, sync=False) as tmp_folder:
            write(tmp_folder)
            content = {**stamp, "files": _count_files(tmp_folder)}
            (tmp_folder / stamp_file).write_text(json.dumps(content) + "\n")
    except OSError as error:
        if _is_complete(folder, stamp, name, stamp_file):  # another process was faster
            return folder
        raise UserError(
            f"The {name} cannot be written to {folder}: {error.strerror}. Give "
            "a folder that can be written; XDG_CACHE_HOME moves the default one."
        ) from error
    return folder


def _is_complete(folder: Path, stamp: dict, name: str, stamp_file: str) -> bool:
    """Whether `folder` has the data set; refuses a folder with anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    content = {}
    if (folder / stamp_file).is_file():
        content = json.loads((folder / stamp_file).read_text())
    files = content.pop("files", None)
    if content == stamp and files == _count_files(folder) - 1:  # not the stamp
        return True
    if content and content != stamp:
        what = f"holds the data set of rows={content['rows']}, seed={content['seed']}"
    else:
        what = f"is not a complete {name}"
    raise UserError(f"{folder} {what}. Remove it, or give another folder.")


def _count_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
